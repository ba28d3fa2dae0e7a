package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pgtether/pgtether/internal/config"
)

// errSignal is the cause of an orderly end.
var errSignal = errors.New("asked to stop by a signal")

func newServeCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "run the proxy in the foreground; SIGTERM drains and exits, SIGHUP reloads",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				path = os.Getenv(envConfig)
			}
			if path == "" {
				return usageError(errors.New("no configuration file is named: give --config FILE or set " + envConfig))
			}
			return serve(cmd.Context(), path, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "the configuration file (environment: "+envConfig+")")
	return cmd
}

// serve runs the proxy until a signal or until it cannot go on.
func serve(parent context.Context, path string, stderr io.Writer) error {
	if parent == nil {
		parent = context.Background()
	}
	dumpable := leaveNoCore() // before there is a secret
	file, warnings, err := config.Load(path)
	if err != nil {
		return usageError(err)
	}
	log, level := newLogger(stderr, file)
	if dumpable != nil { // no reason not to serve
		log.Warn("secrets may get into a core dump", "err", dumpable)
	}
	for _, w := range warnings {
		log.Warn("configuration", "reason", w.String())
	}
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	stop := onSignals(ctx, cancel, log)
	defer stop()

	d, err := newDaemon(path, file, log, level)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	go d.reloadOnHangup(ctx)
	if err := d.run(ctx); err != nil && !errors.Is(err, errSignal) {
		return err
	}
	log.Info("stopped", "cause", context.Cause(ctx))
	return nil
}

// onSignals ends ctx at the first SIGTERM or SIGINT and the process at the second.
func onSignals(ctx context.Context, cancel context.CancelCauseFunc, log *slog.Logger) (stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	quit := make(chan struct{}) // closed by stop
	go func() {
		select {
		case s := <-signals:
			log.Info("stopping", "cause", s.String())
			cancel(fmt.Errorf("%w: %s", errSignal, s))
		case <-quit:
			return
		}
		select {
		case s := <-signals:
			log.Error("stopped at once", "cause", s.String())
			os.Exit(exitFailed)
		case <-quit:
		}
	}()
	return func() {
		signal.Stop(signals)
		close(quit)
	}
}

// newLogger builds the log that the configuration asks for. Its level can be changed by a reload.
func newLogger(w io.Writer, file *config.File) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	level.Set(logLevel(file))
	opts := &slog.HandlerOptions{Level: level}
	if file.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), level
	}
	return slog.New(slog.NewTextHandler(w, opts)), level
}

func logLevel(file *config.File) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(file.Log.Level)); err != nil {
		return slog.LevelInfo // the configuration was validated: not reached
	}
	return l
}
