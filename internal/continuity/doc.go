// Package continuity brings the state of an idle session from one backend to another: Take asks the old backend for it, Replay makes it again
// on a fresh one that the same role has just logged in to with the same startup packet.
//
// What is guaranteed:
//
//   - After Take and Replay every question that the session can ask gets the answer that the old backend would have given: settings (custom
//     ones that are known by name included), role and session user, prepared statements of the protocol and of SQL with their parameter and
//     result types, the unnamed statement. Or Take names an Obstacle, or Replay fails: then the session is not to be moved.
//   - Take leaves nothing behind: no statement, no transaction, no setting; the client's unnamed statement is still there. This holds after an
//     Obstacle too, for the switchover may be undone and the session live on.
//   - A text is run again only if it certainly is one single PREPARE statement, and by a message that lets the server refuse anything else.
//   - What the server said to the client meanwhile (notices, notifications, parameters) is handed back, to the last byte.
//   - No error holds the value of a setting or the text of a statement: either may hold a secret.
//
// What a move loses, besides what makes an Obstacle: currval and lastval; the seed of random; globals of procedural languages; libraries that
// LOAD has loaded; connections of dblink and postgres_fdw; custom settings whose names are computed inside stored functions; settings that only
// superusers may see (dynamic_library_path) of a session that has put that right down; that temporary tables were used once (temp_buffers can
// be set again); plans. Settings that come from the role or the database
// and that every role may set keep the value that the session had, even if the defaults were changed since. A literal in a prepared statement
// whose meaning depends on the time ('now') or on a setting (TimeZone, DateStyle) is read anew, as PostgreSQL itself does whenever it analyses a
// statement again.
//
// A prepared statement that the old backend itself could not run any more (its table is gone, its result has changed, it does not fit the
// search_path or the role of now) is an Obstacle: whether it would work again later cannot be known, and a fresh one could answer in columns
// that the client does not expect. (One without a result is looked at by its server only when it is run: then it
// is Replay that fails.) Only the unnamed one is left out then: a client that used it would get one error for another.
//
// It never opens a socket and never waits by itself: it reads and writes what it was given, and whoever owns the connection owns its deadline.
// A serializable, read only, deferrable session is asked in a transaction of that kind, which waits for concurrent serializable writers.
package continuity
