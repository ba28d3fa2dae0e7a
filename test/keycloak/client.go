package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// requestPatience bounds one request; a request waits for the database, so this ends hangs only.
const requestPatience = time.Minute

// userPassword is every test user's password.
const userPassword = "correct horse"

// admin speaks Keycloak's admin interface. Its token lives for 60 s and is renewed when half of that has passed.
type admin struct {
	base, token string
	until       time.Time
}

// newAdmin logs the first administrator in.
func newAdmin(ctx context.Context, base string) (*admin, error) {
	a := &admin{base: base}
	return a, a.authenticate(ctx)
}

func (a *admin) authenticate(ctx context.Context) error {
	if time.Now().Before(a.until) {
		return nil
	}
	t, err := grant(ctx, a.base, "master", url.Values{
		"client_id": {"admin-cli"}, "grant_type": {"password"}, "username": {adminUser}, "password": {adminPassword},
	})
	if err != nil {
		return fmt.Errorf("log in administrator: %w", err)
	}
	a.token, a.until = t.AccessToken, time.Now().Add(30*time.Second)
	return nil
}

// createRealm makes a realm whose password hash is cheap: the database is what is tried here, not the hash.
func (a *admin) createRealm(ctx context.Context, realm string) error {
	return a.post(ctx, "/admin/realms", map[string]any{
		"realm": realm, "enabled": true, "passwordPolicy": "hashAlgorithm(pbkdf2-sha256) and hashIterations(1000)",
	})
}

func (a *admin) createClient(ctx context.Context, realm, id string) error {
	return a.post(ctx, "/admin/realms/"+realm+"/clients", map[string]any{
		"clientId": id, "publicClient": true, "directAccessGrantsEnabled": true, "enabled": true,
	})
}

// createUser makes a user with the profile fields without which a login is refused as "not fully set up".
func (a *admin) createUser(ctx context.Context, realm, name string) error {
	return a.post(ctx, "/admin/realms/"+realm+"/users", map[string]any{
		"username": name, "enabled": true, "email": name + "@example.org", "firstName": name, "lastName": "Demo",
		"credentials": []any{map[string]any{"type": "password", "value": userPassword, "temporary": false}},
	})
}

// post creates something; any answer but 201 Created is an error.
func (a *admin) post(ctx context.Context, path string, body any) error {
	if err := a.authenticate(ctx); err != nil {
		return err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode body for %s: %w", path, err)
	}
	status, answer, err := send(ctx, a.base+path, "application/json", a.token, text)
	if err != nil {
		return err
	}
	if status != http.StatusCreated {
		return fmt.Errorf("post %s: status %d: %s", path, status, answer)
	}
	return nil
}

// tokens is what the token endpoint gives.
type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

// logInAndOut is one user's day: log in, refresh, log out; afterwards the refresh token must be dead, so the logout reached the database.
func logInAndOut(ctx context.Context, base, realm, user string) error {
	t, err := grant(ctx, base, realm, url.Values{
		"client_id": {"app"}, "grant_type": {"password"}, "username": {user}, "password": {userPassword},
	})
	if err != nil {
		return fmt.Errorf("log in %s: %w", user, err)
	}
	refresh := url.Values{"client_id": {"app"}, "grant_type": {"refresh_token"}, "refresh_token": {t.RefreshToken}}
	if t, err = grant(ctx, base, realm, refresh); err != nil {
		return fmt.Errorf("refresh token of %s: %w", user, err)
	}
	refresh.Set("refresh_token", t.RefreshToken)
	logout := url.Values{"client_id": {"app"}, "refresh_token": {t.RefreshToken}}
	status, answer, err := send(ctx, endpoint(base, realm, "logout"), formType, "", []byte(logout.Encode()))
	if err != nil {
		return fmt.Errorf("log out %s: %w", user, err)
	}
	if status != http.StatusNoContent {
		return fmt.Errorf("log out %s: status %d: %s", user, status, answer)
	}
	status, answer, err = send(ctx, endpoint(base, realm, "token"), formType, "", []byte(refresh.Encode()))
	if err != nil {
		return fmt.Errorf("refresh after the logout of %s: %w", user, err)
	}
	if status != http.StatusBadRequest {
		return fmt.Errorf("refresh after the logout of %s: status %d, want 400: %s", user, status, answer)
	}
	return nil
}

const formType = "application/x-www-form-urlencoded"

func endpoint(base, realm, name string) string {
	return base + "/realms/" + realm + "/protocol/openid-connect/" + name
}

// grant asks the token endpoint.
func grant(ctx context.Context, base, realm string, form url.Values) (tokens, error) {
	status, answer, err := send(ctx, endpoint(base, realm, "token"), formType, "", []byte(form.Encode()))
	if err != nil {
		return tokens{}, err
	}
	if status != http.StatusOK {
		return tokens{}, fmt.Errorf("grant %s: status %d: %s", form.Get("grant_type"), status, answer)
	}
	var t tokens
	if err := json.Unmarshal([]byte(answer), &t); err != nil {
		return tokens{}, fmt.Errorf("decode tokens: %w", err)
	}
	if t.AccessToken == "" || t.RefreshToken == "" {
		return tokens{}, fmt.Errorf("grant %s: the answer lacks a token", form.Get("grant_type"))
	}
	return t, nil
}

// send posts a body and returns the status and the start of the answer.
func send(ctx context.Context, address, contentType, token string, body []byte) (status int, answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, "", fmt.Errorf("post: %w", err)
	}
	req.Header.Set("Content-Type", contentType)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("post: %w", err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return 0, "", fmt.Errorf("read answer of %s: %w", address, err)
	}
	return res.StatusCode, strings.TrimSpace(string(content)), nil
}

// get returns the status of a page.
func get(ctx context.Context, address string) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, fmt.Errorf("get: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("get: %w", err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16)); err != nil {
		return 0, fmt.Errorf("read answer of %s: %w", address, err)
	}
	return res.StatusCode, nil
}
