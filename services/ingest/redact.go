package ingest

import (
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const redacted = "[redacted]"

// minSecret is the shortest password that is hunted for by itself: replacing every "1" in a text would tell it.
// Shorter ones still vanish with the user information of a URL.
const minSecret = 3

var (
	// userInfo is greedy up to the last @ before white space or a quote: a raw password may hold '/' and '@'.
	userInfo = regexp.MustCompile(`(?i)\b(rtsps?|https?)://[^\s"'<>]*@`)
	// secretParam finds credentials that cameras take as parameters, in the query or in the path.
	secretParam = regexp.MustCompile(`(?i)((?:pass|passwd|password|pwd|token|secret|auth|key)=)[^\s"'&/?]+`)
	basicAuth   = regexp.MustCompile(`(?i)\b(basic) [a-z0-9+/]{3,}=*`)
)

// A Redactor removes the credentials of one camera's URL from texts that people will see: errors, logs, states.
// The zero value knows no password, but still removes the user information of every URL it meets.
type Redactor struct {
	secrets []string // longest first
}

// NewRedactor collects the password of rawURL in every form in which a library may print it: as written, decoded,
// encoded anew, quoted, and as a Basic authorization. rawURL need not be valid.
func NewRedactor(rawURL string) Redactor {
	var found []string
	add := func(password string) {
		if len(password) < minSecret {
			return
		}
		quoted := strconv.Quote(password)
		found = append(found, password, url.PathEscape(password), url.QueryEscape(password),
			url.UserPassword("", password).String()[1:], quoted[1:len(quoted)-1])
	}
	_, rest, _ := strings.Cut(rawURL, "://")
	// Where the user information ends is open when the password holds '@' or '/': collect every reading.
	for at := range len(rest) {
		if rest[at] != '@' {
			continue
		}
		part := rest[:at]
		user, password, _ := strings.Cut(part, ":")
		add(password)
		add(part)
		add(base64.StdEncoding.EncodeToString([]byte(part)))
		for _, unescape := range []func(string) (string, error){url.PathUnescape, url.QueryUnescape} {
			if plain, err := unescape(password); err == nil {
				add(plain)
				name, _ := unescape(user)
				add(base64.StdEncoding.EncodeToString([]byte(name + ":" + plain)))
			}
		}
	}
	for _, m := range secretParam.FindAllString(rest, -1) {
		_, value, _ := strings.Cut(m, "=")
		add(value)
		if plain, err := url.QueryUnescape(value); err == nil {
			add(plain)
		}
	}
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	return Redactor{secrets: slices.Compact(found)}
}

// Redact returns text without credentials.
func (r Redactor) Redact(text string) string {
	text = userInfo.ReplaceAllString(text, "$1://"+redacted+"@")
	text = secretParam.ReplaceAllString(text, "$1"+redacted)
	text = basicAuth.ReplaceAllString(text, "$1 "+redacted)
	for _, s := range r.secrets {
		text = strings.ReplaceAll(text, s, redacted)
	}
	return text
}

// Error returns err with a redacted text and the same cause. The original is not reachable from it, since anybody
// could print that.
func (r Redactor) Error(err error) error {
	if err == nil {
		return nil
	}
	return WithCause(CauseOf(err), errors.New(r.Redact(err.Error())))
}
