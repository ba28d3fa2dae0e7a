// Package proxy is the data plane: it accepts PostgreSQL clients, ties each of them to one backend connection of the one writer, and
// forwards bytes between the two until one side ends or the writer's epoch is cut.
//
// What it guarantees:
//
//   - One writer. A backend connection belongs to the epoch under which it was dialled. After Server.Cut(e) has returned, no byte is sent on
//     a connection of an epoch <= e, and nothing that such a backend said reaches a client any more: client sides are detached first, then
//     the backends are closed with a reset.
//   - Proof per connection. A client sees AuthenticationOk only after that very backend connection has shown that it is out of recovery.
//   - Errors, not hangs. Every wait has an owner and an end: startup_timeout counts while the client's own bytes are awaited, hold.login while
//     there is no writer, connect_timeout from the dial to the backend's first answer. Each refusal has a reason from pgwire's closed list
//     and is counted under it, the silent ones too.
//   - Bounded memory. Before a whole startup packet has been read a connection costs a table entry and a small buffer; afterwards two
//     buffers of fixed size, one per direction, each with its own back-pressure.
//
// What it never does: it never decides which node is the writer (it is told by Open, Hold and Cut), never looks into statements or rows, never
// changes what the server says (but for an offer of channel binding that a client in clear could only take for an attack), and never opens a
// backend before a whole startup packet has been read.
//
// The life of a login:
//
//	accept -> startup packets, one at a time -> TLS -> limits -> hold until there is a route -> dial -> backend TLS -> replay the startup bytes
//	-> relay authentication -> prove the writer -> deliver -> pin: forward -> end
//
// Who owns what: Serve owns its listener; a login owns both connections until it hands them to the forwarder and is over then; the forwarder owns
// them until it hands them back, parked or ended. table owns the routes and every backend connection's fate at a cut; holdQueue and admission own
// who may dial when.
//
// On Linux plain pairs run on event loops, which own their sockets by descriptors of their own and add their number to GOMAXPROCS; pairs with TLS,
// other systems, and everything with PGTETHER_FORWARDER=goroutines in the environment, run on two goroutines each. The loops accept the clients too.
// The sockets are read and written by system calls that Go's scheduler is not told of, on goroutines too: they never block.
// A login is a coroutine of its loop until it has to wait for something else than its two sockets, see seat: then it leaves the loop and is a
// goroutine like any other. So its code is the same on both.
package proxy
