// Command pgtether is the proxy, its checks and the client of its admin listener.
//
// Exit codes: 0 done, 1 refused or failed, 2 usage or invalid configuration, 3 cannot reach the proxy. A command that does not end with 0
// says in one line on stderr what failed and where; an invalid configuration has one line per problem.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }
