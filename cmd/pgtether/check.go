package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/pgtether/pgtether/internal/config"
)

// checkReport is what check prints with --json.
type checkReport struct {
	File     string      `json:"file"`
	Valid    bool        `json:"valid"`
	Problems []remark    `json:"problems"`
	Warnings []remark    `json:"warnings"`
	Live     *liveReport `json:"live,omitempty"`
}

// remark is one thing that was noticed about a configuration file.
type remark struct {
	File string `json:"file"`
	// Line counts from 1; 0 when the remark is about something that is not in the file.
	Line    int    `json:"line,omitempty"`
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

type checkFlags struct {
	config     string
	live, json bool
}

func newCheckCommand() *cobra.Command {
	var flags checkFlags
	cmd := &cobra.Command{
		Use:   "check --config FILE",
		Short: "validate a configuration file; with --live also ask the nodes what would block a failover",
		Long: `Validate a configuration file and every file that it names. Nothing is started and nothing is changed.

With --live every node is asked, with the probe's own role, and what would block a failover today is said per node. In mode observe
that is what would be said against a promotion, whoever does it.

Exit code 0: valid and, with --live, nothing would block a failover; 1: something would; 2: the configuration is invalid.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.run(cmd) },
	}
	cmd.Flags().StringVar(&flags.config, "config", "", "configuration file (or "+envConfig+")")
	cmd.Flags().BoolVar(&flags.live, "live", false, "also ask the nodes")
	cmd.Flags().BoolVar(&flags.json, "json", false, "print JSON")
	return cmd
}

func (f *checkFlags) run(cmd *cobra.Command) error {
	path := f.config
	if path == "" {
		path = os.Getenv(envConfig)
	}
	if path == "" {
		return usageError(errors.New("no configuration file is named: give --config FILE or set " + envConfig))
	}
	file, warnings, invalid := config.Load(path)
	report := checkReport{File: path, Valid: invalid == nil, Problems: problemsOf(invalid), Warnings: warningsOf(warnings)}
	var blocked error
	if invalid == nil && f.live {
		live, err := examine(cmd.Context(), file)
		if err != nil {
			return err
		}
		report.Live, blocked = live, live.verdict()
	}
	if err := f.print(cmd, report); err != nil {
		return err
	}
	if invalid != nil {
		return usageError(invalid)
	}
	return blocked
}

func problemsOf(err error) []remark {
	remarks := []remark{}
	for _, p := range config.Problems(err) {
		remarks = append(remarks, remark{p.File, p.Line, p.Key, p.Text})
	}
	return remarks
}

func warningsOf(warnings []config.Warning) []remark {
	remarks := []remark{}
	for _, w := range warnings {
		remarks = append(remarks, remark{w.File, w.Line, w.Key, w.Text})
	}
	return remarks
}

// print writes the report. Of an invalid configuration there is nothing to write as text: the problems are the error that ends the command,
// on stderr.
func (f *checkFlags) print(cmd *cobra.Command, report checkReport) error {
	if f.json {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	if !report.Valid {
		return nil
	}
	p := newPrinter(cmd.OutOrStdout())
	for _, w := range report.Warnings {
		p.line(cell{"warning: ", yellow}, text((&config.Problem{File: w.File, Line: w.Line, Key: w.Key, Text: w.Message}).Error()))
	}
	p.line(text(report.File+": "), cell{"valid", green}, text(noted(len(report.Warnings))))
	if report.Live != nil {
		report.Live.print(p)
	}
	return p.err
}

func noted(warnings int) string {
	switch warnings {
	case 0:
		return ""
	case 1:
		return ", with 1 warning"
	default:
		return fmt.Sprintf(", with %d warnings", warnings)
	}
}
