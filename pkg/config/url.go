package config

import (
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

const wantURL = "write rtsp://user:password@host:port/path or rtsps://, and " + demoURL + " for the built-in camera"

// secretParameter finds the parameters in which cameras take credentials, in the query or in the path.
var secretParameter = regexp.MustCompile(`(?i)((?:pass|passwd|password|pwd|token|secret|auth|key)=)[^&/?]+`)

// A urlError is a problem of a URL. It quotes nothing of it.
type urlError struct{ message, hint string }

func (e *urlError) Error() string { return e.message + ": " + e.hint }

// location is a URL in its parts; all but the host as they were written.
type location struct {
	scheme, user, host, rest string
	hasUser                  bool
}

// ParseURL reads the address of a camera. What ParseURL says about a bad one never quotes it.
func ParseURL(raw string) (URL, error) {
	l, err := parseLocation(raw)
	if err != nil {
		return URL{}, err
	}
	return l.url(false), nil
}

func parseLocation(raw string) (location, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	l := location{scheme: strings.ToLower(scheme)}
	switch {
	case !ok:
		return l, &urlError{"is not a URL", wantURL}
	case l.scheme != "rtsp" && l.scheme != "rtsps":
		return l, &urlError{"is not an RTSP address", wantURL}
	case strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '"' || c == '\\' }):
		return l, &urlError{"holds a blank, a quote or a control character", "percent-encode it, as in %20"}
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	l.rest = rest[end:]
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		l.user, l.host, l.hasUser = authority[:at], authority[at+1:], true
	} else {
		l.host = authority
	}
	return l, l.check()
}

func (l location) check() error {
	if strings.Contains(l.rest, "@") {
		return &urlError{
			"has an @ behind the host",
			"percent-encode / ? # and @ in the password (%2F %3F %23 %40), or use the keys username and password",
		}
	}
	if strings.Contains(l.rest, "#") {
		return &urlError{"has a #", "percent-encode it as %23"}
	}
	host, err := url.Parse(l.scheme + "://" + l.host)
	if err != nil || host.Hostname() == "" || strings.HasSuffix(l.host, ":") {
		return &urlError{"has no host that can be read, or its port is no number", wantURL}
	}
	if port := host.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return &urlError{"has an impossible port", "write 1 to 65535; without one it is 554, for rtsps 322"}
		}
	}
	if _, err := url.Parse(l.scheme + "://" + l.host + l.rest); err != nil {
		return &urlError{"has a path that cannot be read", "percent-encode special characters, % itself as %25"}
	}
	if _, _, err := l.credentials(); err != nil {
		return err
	}
	return nil
}

// credentials decodes the user information.
func (l location) credentials() (name, password string, err error) {
	user, pass, _ := strings.Cut(l.user, ":")
	name, err1 := url.PathUnescape(user)
	password, err2 := url.PathUnescape(pass)
	if errors.Join(err1, err2) != nil {
		return "", "", &urlError{"has a user name or password with a bare %", "percent-encode it as %25, or use the keys username and password"}
	}
	if l.hasUser && name == "" {
		return "", "", &urlError{"has an @ without a user name", "write rtsp://user:password@host, or leave the @ out"}
	}
	return name, password, nil
}

// with returns l with other credentials.
func (l location) with(name string, password Secret) location {
	info := url.User(name)
	if !password.IsZero() {
		info = url.UserPassword(name, password.Reveal())
	}
	l.user, l.hasUser = info.String(), true
	return l
}

// url assembles l; behind says to hide what is behind the host.
func (l location) url(behind bool) URL {
	a := address{raw: l.scheme + "://", shown: l.scheme + "://"}
	if name, password, err := l.credentials(); err == nil && l.hasUser {
		a.raw += l.with(name, NewSecret(password)).user + "@"
		a.shown += redacted + "@"
	}
	a.raw += l.host + l.rest
	a.shown += l.host
	switch {
	case behind && len(l.rest) > 1:
		a.shown += "/" + redacted
	default:
		a.shown += secretParameter.ReplaceAllString(l.rest, "${1}"+redacted)
	}
	return URL{&a}
}

// fromScalar assembles a URL of the file. What ${...} puts into the user information is taken as it is, so that a
// password in a variable needs no percent-encoding; anywhere else it is part of the URL.
func fromScalar(s scalar) (l location, found exposure, err error) {
	// The outline tells what a piece is part of, whatever characters the variables hold.
	var outline strings.Builder
	for _, p := range s.parts {
		if p.variable != "" {
			outline.WriteString(strings.Repeat("x", len(p.text)))
		} else {
			outline.WriteString(p.text)
		}
	}
	o := outlined{text: outline.String()}
	o.find()
	var raw strings.Builder
	offset := 0
	for _, p := range s.parts {
		inUser := offset >= o.from && offset < o.to
		switch {
		case p.variable != "" && inUser:
			raw.WriteString(encoded(p.text, !strings.Contains(o.text[o.from:o.to], ":")))
		case p.variable != "":
			raw.WriteString(p.text)
			found.hidden = found.hidden || strings.ContainsAny(p.text, "/?") || o.behindHost(offset)
		default:
			raw.WriteString(p.text)
			found.clear = found.clear || o.holdsPassword(offset, offset+len(p.text))
		}
		offset += len(p.text)
	}
	found.clear = found.clear || secretParameter.MatchString(s.literal())
	l, err = parseLocation(raw.String())
	return l, found, err
}

// exposure is what is known of the secrets of a URL: hidden says to hide what is behind the host, clear that a password
// stands in the file.
type exposure struct{ hidden, clear bool }

// outlined is a URL with the pieces of variables blacked out, and the range of its user information.
type outlined struct {
	text     string
	from, to int
}

func (o *outlined) find() {
	at := strings.Index(o.text, "://")
	if at < 0 {
		return
	}
	o.from = at + len("://")
	rest := o.text[o.from:]
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	o.to = o.from + max(strings.LastIndexByte(rest, '@'), 0)
}

// behindHost says whether a piece may reach behind the host: it stands there, or holds the scheme as well.
func (o *outlined) behindHost(offset int) bool {
	if offset < max(o.from, 1) {
		return true
	}
	end := strings.IndexAny(o.text[o.from:], "/?#")
	return end >= 0 && offset >= o.from+end
}

// holdsPassword says whether a piece has a part of the password.
func (o *outlined) holdsPassword(from, to int) bool {
	colon := strings.IndexByte(o.text[o.from:o.to], ':')
	return colon >= 0 && max(from, o.from+colon+1) < min(to, o.to)
}

// encoded percent-encodes a user name or password, or both when the variable holds name:password.
func encoded(text string, both bool) string {
	if name, password, ok := strings.Cut(text, ":"); both && ok {
		return url.UserPassword(name, password).String()
	}
	return url.UserPassword("", text).String()[1:]
}
