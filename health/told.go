package health

import (
	"context"

	"github.com/pgtether/pgtether/decision"
)

// toldSettings are the parameters that a session has told, and when it had read the server's configuration by then. The zero value is none.
type toldSettings struct {
	at     decision.Instant
	loaded string
	answer answer
}

func settingsTold(a answer, at decision.Instant) toldSettings {
	return toldSettings{at: at, loaded: loadedAt(a), answer: a}
}

// loadedAt is when the session that gave the answer had read the configuration; "" when it does not tell.
func loadedAt(a answer) string { return readSettings(a)[loadedName] }

// lasts reports whether they need not be asked for again as long as the session has not read the configuration again. What a role may see, and the few
// parameters that are no part of the configuration (data_checksums), change without: so it is not for long.
func (t toldSettings) lasts(now decision.Instant) bool {
	return t.loaded != "" && now.Sub(t.at) < FreshEvery
}

// askUnlessTold is ask for the statements of a round that begins now, of which that for the parameters is not sent unless the session has read the
// configuration again.
func (l *link) askUnlessTold(ctx context.Context, all []string, now decision.Instant) ([]answer, error) {
	all[askSettings] = loadedStatement
	answers, err := l.askTogether(ctx, all)
	if err != nil {
		return answers, err
	}
	if loadedAt(answers[askSettings]) == l.told.loaded {
		answers[askSettings] = l.told.answer
		return answers, nil
	}
	again, err := l.ask(ctx, []string{datedSettingsStatement})
	answers[askSettings], l.told = again[0], settingsTold(again[0], now)
	return answers, err
}
