package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// newPassword is what a user's password is changed to.
const newPassword = "battery staple"

// facts are what Keycloak acknowledged right before one switchover, and what must be so after it. Each of the four users has one.
type facts struct {
	number                        int
	left, disabled, changed, stay string
	// ids are those of the users whom the administrator changes.
	ids map[string]string
	// dead is the refresh token of the one who logged out, alive that of the one who did not.
	dead, alive string
}

// newFacts makes the users of one switchover.
func newFacts(ctx context.Context, boss *admin, number int) (*facts, error) {
	name := func(what string) string { return fmt.Sprintf("%s-%d", what, number) }
	f := &facts{number: number, left: name("left"), disabled: name("disabled"), changed: name("changed"), stay: name("stay"), ids: map[string]string{}}
	for _, user := range []string{f.left, f.disabled, f.changed, f.stay} {
		if err := boss.createUser(ctx, realm, user); err != nil {
			return nil, err
		}
		id, err := boss.userID(ctx, realm, user)
		if err != nil {
			return nil, err
		}
		f.ids[user] = id
	}
	return f, nil
}

// establish has one user log out, one be disabled, one given another password, and one only log in.
func (f *facts) establish(ctx context.Context, boss *admin) error {
	for user, token := range map[string]*string{f.left: &f.dead, f.stay: &f.alive} {
		t, err := grant(ctx, boss.base, realm, passwordForm(user, userPassword))
		if err != nil {
			return fmt.Errorf("log in %s: %w", user, err)
		}
		*token = t.RefreshToken
	}
	status, answer, err := send(ctx, endpoint(boss.base, realm, "logout"), formType, "", []byte(refreshForm(f.dead).Encode()))
	if err := acknowledged("log out "+f.left, status, answer, err); err != nil {
		return err
	}
	if err := boss.authenticate(ctx); err != nil {
		return err
	}
	status, answer, err = boss.disable(ctx, realm, f.ids[f.disabled], f.disabled)
	if err := acknowledged("disable "+f.disabled, status, answer, err); err != nil {
		return err
	}
	status, answer, err = boss.setPassword(ctx, realm, f.ids[f.changed], newPassword)
	return acknowledged("change password of "+f.changed, status, answer, err)
}

func acknowledged(what string, status int, answer string, err error) error {
	if err == nil && status != http.StatusNoContent {
		err = fmt.Errorf("status %d: %s", status, answer)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// hold asks a Keycloak whether the facts are still so; each that is not is an error.
func (f *facts) hold(ctx context.Context, base string) error {
	var broken []error
	for _, q := range []struct {
		what   string
		form   url.Values
		status int
		// says is part of the answer, so that a refusal for another reason does not count.
		says string
	}{
		{"the refresh token of the user who logged out", refreshForm(f.dead), http.StatusBadRequest, "active"},
		{"a login of the disabled user", passwordForm(f.disabled, userPassword), http.StatusBadRequest, "disabled"},
		{"a login with the password that was replaced", passwordForm(f.changed, userPassword), http.StatusBadRequest, "Invalid user credentials"},
		{"a login with the new password", passwordForm(f.changed, newPassword), http.StatusOK, "access_token"},
		{"the refresh token of the user who stayed", refreshForm(f.alive), http.StatusOK, "access_token"},
	} {
		status, answer, err := send(ctx, endpoint(base, realm, "token"), formType, "", []byte(q.form.Encode()))
		if err == nil && (status != q.status || !strings.Contains(answer, q.says)) {
			if status == http.StatusOK {
				answer = "it is accepted"
			}
			err = fmt.Errorf("status %d, want %d and %q: %s", status, q.status, q.says, answer)
		}
		if err != nil {
			broken = append(broken, fmt.Errorf("switchover %d: %s: %w", f.number, q.what, err))
		}
	}
	return errors.Join(broken...)
}

func passwordForm(user, password string) url.Values {
	return url.Values{"client_id": {"app"}, "grant_type": {"password"}, "username": {user}, "password": {password}}
}

func refreshForm(token string) url.Values {
	return url.Values{"client_id": {"app"}, "grant_type": {"refresh_token"}, "refresh_token": {token}}
}

// disable takes a user's right to log in.
func (a *admin) disable(ctx context.Context, realm, id, name string) (status int, answer string, err error) {
	// What the profile has and this leaves out would be removed.
	body, err := json.Marshal(map[string]any{"username": name, "enabled": false, "email": name + "@example.org", "firstName": name, "lastName": "Demo"})
	if err != nil {
		return 0, "", fmt.Errorf("encode user: %w", err)
	}
	return a.request(ctx, http.MethodPut, "/admin/realms/"+realm+"/users/"+id, body)
}
