package config

import "log/slog"

// hidden stands for a secret wherever one would be printed.
const hidden = "(hidden)"

// Secret is a password or a token. It prints as "(hidden)" whatever meets it: a format verb, a logger, an encoder. The text is behind a
// pointer because formatting a struct that holds a Secret in an unexported field does not call its methods.
type Secret struct{ text *string }

// NewSecret hides a text.
func NewSecret(text string) Secret { return Secret{&text} }

// IsSet reports whether there is a secret at all; an empty one is none.
func (s Secret) IsSet() bool { return s.text != nil && *s.text != "" }

// Reveal returns the text. It is for the one place that needs it; never log it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String implements fmt.Stringer.
func (s Secret) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return hidden }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
