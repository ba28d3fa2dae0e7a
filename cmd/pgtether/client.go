package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pgtether/pgtether/internal/config"
)

const (
	// defaultAdmin is where a proxy with the default configuration listens.
	defaultAdmin = "http://127.0.0.1:7432"
	// answerTimeout bounds a whole request: a decision is computed from facts that are at hand.
	answerTimeout = 10 * time.Second
	// maxAnswer bounds a body in bytes. 10,000 events are about 10 MiB.
	maxAnswer = 64 << 20
)

// Environment variables that take the place of flags.
const (
	envAdmin  = "PGTETHER_ADMIN"
	envConfig = "PGTETHER_CONFIG"
	envToken  = "PGTETHER_TOKEN"
)

// clientFlags are the flags of every command that asks a running proxy.
type clientFlags struct {
	admin, config string
	json          bool
}

func (f *clientFlags) add(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.admin, "admin", "", "URL of the proxy's admin listener (or "+envAdmin+")")
	flags.StringVar(&f.config, "config", "", "configuration file of the proxy, to find its admin listener and token (or "+envConfig+")")
	flags.BoolVar(&f.json, "json", false, "print the body of the HTTP answer")
	cmd.MarkFlagsMutuallyExclusive("admin", "config")
}

// client asks one proxy. It follows no redirect and uses no HTTP proxy: the token goes to the address that was named and nowhere else.
type client struct {
	base  *url.URL
	token string
	http  *http.Client
	// patience bounds a whole request, not a stream.
	patience time.Duration
}

// newClient is one that has no proxy yet.
func newClient(token string) *client {
	return &client{token: token, patience: answerTimeout, http: &http.Client{
		Transport:     &http.Transport{DialContext: (&net.Dialer{Timeout: 3 * time.Second}).DialContext, ResponseHeaderTimeout: answerTimeout},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// client finds the proxy that the flags or the environment name. A flag wins over the environment, and an address over a file.
func (f *clientFlags) client() (*client, error) {
	c := newClient(os.Getenv(envToken))
	admin, file := f.admin, f.config
	if admin == "" && file == "" {
		admin = os.Getenv(envAdmin)
	}
	if admin == "" && file == "" {
		file = os.Getenv(envConfig)
	}
	var err error
	switch {
	case admin != "":
		c.base, err = parseAdmin(admin)
	case file != "":
		err = c.fromConfig(file)
	default:
		c.base, err = parseAdmin(defaultAdmin)
	}
	if err != nil {
		return nil, usageError(err)
	}
	return c, nil
}

// fromConfig takes address and token from the proxy's own configuration. A token in the environment wins.
func (c *client) fromConfig(file string) error {
	f, err := config.LoadForClient(file)
	if err != nil {
		return err
	}
	if c.token == "" {
		c.token = f.AdminToken().Reveal()
	}
	c.base, err = parseAdmin(reachable(f.Admin.Address))
	return err
}

// reachable turns an address to listen on into one to connect to: "any address" is this machine.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

// parseAdmin reads a URL, or "host:port" for short.
func parseAdmin(text string) (*url.URL, error) {
	full := text
	if !strings.Contains(text, "://") {
		full = "http://" + text
	}
	u, err := url.Parse(full)
	switch {
	case err != nil:
		return nil, fmt.Errorf("admin address %q is not a URL like %s", text, defaultAdmin)
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.Hostname() == "", u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("admin address %q is not a URL like %s", u.Redacted(), defaultAdmin)
	}
	return u, nil
}

// request prepares a GET of a path with a query.
func (c *client) request(ctx context.Context, path string, query url.Values) (*http.Request, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", u, err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// get returns the body of an answer. For an answer other than 200 it returns the body together with an error.
func (c *client) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	req, err := c.request(ctx, path, query)
	if err != nil {
		return nil, err
	}
	return c.exchange(req)
}

// post gives a command, with a query and with what as its JSON body; nil is none. For an answer other than 2xx it returns the body together with an error.
func (c *client) post(ctx context.Context, path string, query url.Values, what any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	req, err := c.request(ctx, path, query)
	if err != nil {
		return nil, err
	}
	req.Method = http.MethodPost
	if what != nil {
		body, err := json.Marshal(what)
		if err != nil {
			return nil, fmt.Errorf("write the body for %s: %w", req.URL, err)
		}
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		req.Header.Set("Content-Type", "application/json")
	}
	return c.exchange(req)
}

// exchange sends a request and reads the whole answer.
func (c *client) exchange(req *http.Request) ([]byte, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachableError(fmt.Errorf("reach the proxy: %w", err))
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := readAnswer(resp.Body)
	if err != nil {
		return nil, unreachableError(fmt.Errorf("read the answer of %s: %w", req.URL, err))
	}
	return body, checkAnswer(resp, body)
}

func readAnswer(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		return nil, fmt.Errorf("more than %d bytes", maxAnswer)
	}
	return body, err
}

// apiError is the body of every answer that is not 2xx.
type apiError struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	} `json:"error"`
}

// checkAnswer turns an answer other than 200, or 202 to a command, into an error. One that does not explain itself as pgtether does is somebody else's.
func checkAnswer(resp *http.Response, body []byte) error {
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusAccepted && resp.Request.Method == http.MethodPost {
		return nil
	}
	where := *resp.Request.URL
	var e apiError
	if err := json.Unmarshal(body, &e); err != nil || e.Error.Message == "" {
		return unreachableError(fmt.Errorf("%s answers %s, which is not an answer of pgtether's: is this its admin address?", &where, resp.Status))
	}
	hint := ""
	if e.Error.Hint != "" {
		hint = " (" + e.Error.Hint + ")"
	}
	return fmt.Errorf("%s answers %d: %s%s", &where, resp.StatusCode, e.Error.Message, hint)
}

// show asks for a path and prints the answer: the body as it came with --json, else what table makes of it.
func (f *clientFlags) show(cmd *cobra.Command, path string, query url.Values, table func(p *printer, body []byte) error) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	body, err := c.get(cmd.Context(), path, query)
	if f.json && len(body) > 0 {
		if _, writeErr := cmd.OutOrStdout().Write(body); writeErr != nil {
			return errors.Join(err, fmt.Errorf("write: %w", writeErr))
		}
	}
	if err != nil || f.json {
		return err
	}
	p := newPrinter(cmd.OutOrStdout())
	if err := table(p, body); err != nil {
		return fmt.Errorf("read the answer of %s: %w", c.base.JoinPath(path), err)
	}
	return p.err
}
