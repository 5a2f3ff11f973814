package config

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted stands where a secret is.
const redacted = "[redacted]"

// A Secret is a text that is printed as [redacted] by everything: fmt with any verb, slog, JSON and YAML. Only Reveal
// tells it. The text is behind a pointer, so that fmt cannot reach it inside another struct either.
type Secret struct{ text *string }

// NewSecret makes a secret of a text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal is the text itself.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero says whether there is no text.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// String is [redacted], or empty when there is nothing to hide.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// Format implements [fmt.Formatter]: every verb prints String.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements [encoding.TextMarshaler], which JSON and YAML use.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A URL is an address that may hold credentials. Everything prints it without them: its user information, values of
// parameters such as password, and, where ${...} put something behind the host, all that is behind the host. Only
// Reveal tells the address to connect to.
type URL struct{ address *address }

type address struct{ raw, shown string }

// Reveal is the address to connect to, credentials included and percent-encoded.
func (u URL) Reveal() string {
	if u.address == nil {
		return ""
	}
	return u.address.raw
}

// String is the address without credentials.
func (u URL) String() string {
	if u.address == nil {
		return ""
	}
	return u.address.shown
}

// IsZero says whether there is no address.
func (u URL) IsZero() bool { return u.Reveal() == "" }

// Equal says whether both are the same address with the same credentials.
func (u URL) Equal(other URL) bool { return u.Reveal() == other.Reveal() }

// Format implements [fmt.Formatter]: every verb prints String.
func (u URL) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, u.String()) }

// LogValue implements [slog.LogValuer].
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText implements [encoding.TextMarshaler], which JSON and YAML use.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }
