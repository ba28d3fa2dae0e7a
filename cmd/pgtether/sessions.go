package main

import (
	"encoding/json"

	"github.com/spf13/cobra"
)

func newSessionsCommand() *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "list every session: who, from where, doing what, since when",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.show(cmd, "/sessions", nil, printSessions)
		},
	}
	flags.add(cmd)
	return cmd
}

func printSessions(p *printer, body []byte) error {
	var answer struct {
		Sessions []struct {
			ID                 uint64  `json:"id"`
			Client             string  `json:"client"`
			User               string  `json:"user"`
			Database           string  `json:"database"`
			State              string  `json:"state"`
			Since              string  `json:"since"`
			InTransactionSince *string `json:"in_transaction_since"`
			Node               string  `json:"node"`
			BackendPID         *uint64 `json:"backend_pid"`
			Movable            bool    `json:"movable"`
			NotMovableReason   *string `json:"not_movable_reason"`
		} `json:"sessions"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	rows := [][]cell{header("ID", "CLIENT", "USER", "DATABASE", "STATE", "IN TRANSACTION SINCE", "SINCE", "NODE", "PID", "MOVABLE")}
	for _, s := range answer.Sessions {
		movable := "yes"
		if !s.Movable {
			movable = "no: " + known(s.NotMovableReason, asIs)
		}
		rows = append(rows, words(number(s.ID), s.Client, orUnknown(s.User), orUnknown(s.Database), s.State, known(s.InTransactionSince, asIs), s.Since,
			s.Node, known(s.BackendPID, number), movable))
	}
	p.table(rows)
	return nil
}
