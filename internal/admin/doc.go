// Package admin answers people, scripts and Prometheus over HTTP: what pgtether knows, what it would decide and why, and the commands that it
// takes.
//
// It guarantees that
//
//   - a GET changes nothing, is answered from a snapshot and never waits for a node or a client of the data plane;
//   - a POST is carried out only for whoever may: with the token where one is set; without one only if the listener is on loopback, and then not
//     for a web page that a browser on this machine happens to show (cross-site requests and rebound host names are refused);
//   - what is unknown is null, never 0; every list is a list, never null;
//   - every refusal has one shape: {"error": {"code", "message", "hint"}}, and beside it the decision when it is the engine that refuses;
//   - a command's body is taken as a whole or not at all: an unknown, missing, doubled or mistyped field changes nothing;
//   - a slow, silent or greedy client costs a bounded amount of memory and connections, and a shutdown ends every stream.
//
// It never decides anything, holds no state of its own, and shows no secret. /openapi.json describes it; a test holds the two together.
package admin
