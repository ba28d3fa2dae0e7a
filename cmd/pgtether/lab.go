package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pgtether/pgtether/internal/lab"
)

// envLabSocket names the lab that `pgtether lab send` talks to.
const envLabSocket = "PGTETHER_LAB_SOCKET"

func newLabCommand() *cobra.Command {
	var o lab.RunOptions
	var proxy bool
	var tls string
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "run a real PostgreSQL primary and hot standby on this machine, with faults on demand",
		Long: `Starts a PostgreSQL primary, region-a, and a hot standby, region-b, with the PostgreSQL that this machine has, in a temporary
directory and on loopback; prints how to reach them and a configuration for pgtether; carries out the faults that it reads
from its standard input or through 'pgtether lab send'; and takes everything down at Ctrl-C, with nothing left behind.

Started as root, the servers run as the account postgres or nobody. PGTETHER_LAB_BINDIR names another PostgreSQL,
PGTETHER_LAB_DIR another place for the directory.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			modes := map[string]lab.TLSMode{"off": lab.TLSOff, "shared": lab.TLSShared, "per-node": lab.TLSPerNode}
			mode, known := modes[tls]
			if !known {
				return usageError(fmt.Errorf("unknown --tls %q: want off, shared or per-node", tls))
			}
			o.TLS, o.RelayReplication = mode, true
			o.Input, o.Output = cmd.InOrStdin(), cmd.OutOrStdout()
			if proxy {
				stderr := cmd.ErrOrStderr()
				o.Proxy = func(ctx context.Context, path string) error { return serve(ctx, path, stderr) }
			}
			ctx, stop := signal.NotifyContext(contextOf(cmd), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return lab.Run(ctx, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&proxy, "proxy", false, "run pgtether in front of the pair too")
	f.StringVar(&o.Listen, "listen", "", "where pgtether listens (default 127.0.0.1:6432, or another port when that is taken)")
	f.StringVar(&o.Admin, "admin-listen", "", "where its admin listener is (default 127.0.0.1:7432, or another port)")
	f.BoolVar(&o.Single, "single", false, "no standby")
	f.BoolVar(&o.Synchronous, "sync", false, "the primary waits for the standby at every commit")
	f.BoolVar(&o.Archive, "archive", false, "archive WAL, and restore from there")
	f.StringVar(&tls, "tls", "off", "certificates of the nodes: off, shared (one for nodes and proxy) or per-node")
	f.IntVar(&o.MaxConnections, "max-connections", 0, "max_connections of every node (default 100)")
	f.StringToStringVar(&o.Settings, "set", nil, "a line of postgresql.conf on every node, as NAME=VALUE; may be repeated")
	f.StringVar(&o.BinDir, "bindir", "", "the directory of initdb and postgres (default: the newest on this machine)")
	f.StringVar(&o.Dir, "dir", "", "where the temporary directory is made (default: that of the system)")
	f.StringVar(&o.ProbeRoleSQL, "probe-role-sql", "", "path of configs/sql/probe-role.sql (default: that of the checkout that this runs in)")
	f.BoolVar(&o.JSON, "json", false, "print how to reach everything as one line of JSON")
	cmd.AddCommand(newLabSendCommand())
	return cmd
}

func newLabSendCommand() *cobra.Command {
	var socket string
	cmd := &cobra.Command{
		Use:   "send FAULT [WORD...]",
		Short: "have a running lab carry out a fault, such as: send kill region-a (help lists them)",
		RunE: func(cmd *cobra.Command, words []string) error {
			if len(words) == 0 {
				return usageError(errors.New("a fault is missing, such as: send kill region-a"))
			}
			if socket == "" {
				socket = os.Getenv(envLabSocket)
			}
			if socket == "" {
				var err error
				if socket, err = lab.FindSocket(); err != nil {
					return err
				}
			}
			ctx, stop := signal.NotifyContext(contextOf(cmd), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return lab.Send(ctx, socket, strings.Join(words, " "), cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&socket, "socket", "", "the lab's control socket (environment: "+envLabSocket+"; default: the only lab there is)")
	return cmd
}

// contextOf is the command's context; a command that is run without one has none.
func contextOf(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}
