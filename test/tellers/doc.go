// Package tellers is a crowd of clients that make TPC-B-like transactions through a proxy, connect again when their session ends, and write
// down what they were told: of every transaction whether it is committed, failed or in doubt, and of every session how, and where in its
// conversation, it ended.
//
// Each transaction leaves one row that no other one leaves, so that afterwards every word the clients were given can be held against the
// tables: an acknowledged row is there once, a failed one never, one in doubt at most once, and the balances add up.
//
// Each session also notes which server processes answered it: one that lives on and is answered by another one has been moved.
//
// Clients of another kind take part by way of Crowd.Note, Crowd.NoteEnd and Crowd.Meet. Nothing is concluded from what was not said: an error while a
// COMMIT is unanswered leaves the transaction in doubt, unless it is one by which pgtether, or the server, vouches that it failed.
package tellers
