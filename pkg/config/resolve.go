package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/pkg/model"
	"github.com/sightline-dev/sightline/streams"
)

// A resolver makes a camera of its own layer and that of defaults.
type resolver struct {
	*reader
	repo          repository
	demo          *Demo
	demoDeclared  bool
	own, defaults layer
	draft         draft
	onlyDefaults  bool            // looks at defaults by themselves: nothing is missing
	settled       map[string]bool // keys that need no further look
	demoUsed      bool
}

// origin finds where a key stands: with the camera, under defaults, or nowhere.
func (r *resolver) origin(names ...string) (e entry, own, found bool) {
	if e, ok := r.own.pick(names...); ok {
		return e, true, true
	}
	e, ok := r.defaults.pick(names...)
	return e, false, ok
}

// resolve returns a camera. What is wrong with it is reported.
func (r *resolver) resolve() Camera {
	r.draft = draft{Camera: DefaultCamera()}
	r.settled = map[string]bool{}
	r.defaults.apply(&r.draft)
	if e, ok := r.own.pick("model", "models"); ok && !e.ok {
		r.draft.Models = nil
	}
	r.own.apply(&r.draft)
	for _, l := range []layer{r.defaults, r.own} {
		for name, e := range l.entries {
			winner, _, _ := r.origin(name)
			if !e.ok && winner.path == e.path {
				r.settle(name)
			}
		}
	}
	r.name()
	r.address()
	r.freshness()
	r.models()
	r.rest()
	return r.draft.Camera
}

// settle marks a key as reported.
func (r *resolver) settle(name string) {
	r.settled[name] = true
}

func (r *resolver) name() {
	if r.onlyDefaults {
		r.settled["name"] = true
		return
	}
	if r.draft.Name == "" && !r.settled["name"] {
		r.Add(r.own.line, r.own.path, "has no name", "write name: front-door")
		r.settle("name")
	}
}

// address makes the URL of what stands in url, username and password.
func (r *resolver) address() {
	d := &r.draft
	e, own, found := r.origin("url")
	if bad := r.settled["url"]; bad || !found {
		if !found && !r.onlyDefaults {
			r.Add(r.own.line, r.own.path, "has no url", wantURL)
		}
		r.settled["url"], r.settled["tls"] = true, true
		return
	}
	defer func() { r.settled["url"] = true }()
	if d.address.String() == demoURL {
		r.demoAddress(e)
		return
	}
	l, exposed, err := fromScalar(d.address)
	if err != nil {
		problem, _ := errors.AsType[*urlError](err)
		r.Add(e.line, e.path, problem.message, problem.hint)
		r.settled["tls"] = true
		return
	}
	if exposed.clear {
		r.clearText(e.line, e.path)
	}
	l = r.credentials(l, own)
	d.URL = l.url(exposed.hidden)
	if _, ok := r.own.pick("tls"); !ok && l.scheme != "rtsps" {
		d.TLS = TLS{}
	}
}

func (r *resolver) demoAddress(e entry) {
	d := &r.draft
	r.demoUsed = true
	if _, own, ok := r.origin("tls"); ok && !own {
		d.TLS = TLS{}
	}
	for _, name := range []string{"username", "password"} {
		if c, own, ok := r.origin(name); ok && own {
			r.Add(c.line, c.path, "does not go with url: "+demoURL, "remove it")
		}
	}
	switch {
	case r.demo != nil:
		d.URL = r.demo.URL()
	case r.demoDeclared: // and reported
		r.settle("tls")
	default:
		r.Add(e.line, e.path, "is the built-in camera, but the file has no section demo", "write demo: {footage: file.ts} at the top level, or the URL of a camera")
		r.settled["tls"] = true
	}
}

// credentials puts the keys username and password into the URL. Those of the camera's own URL win over defaults.
func (r *resolver) credentials(l location, ownURL bool) location {
	user, ownUser, hasUser := r.origin("username")
	password, ownPassword, hasPassword := r.origin("password")
	if r.settled["username"] || r.settled["password"] || !hasUser && !hasPassword {
		return l
	}
	if l.hasUser {
		if hasUser && ownUser == ownURL || ownUser && hasUser {
			r.Add(user.line, user.path, "stands in the url too", "keep one of the two")
		} else if hasPassword && (ownPassword == ownURL || ownPassword) {
			r.Add(password.line, password.path, "goes with a username, and the url has one", "write both in the url, or both as keys")
		}
		return l
	}
	if !hasUser {
		r.Add(password.line, password.path, "has no username", "write username: beside it")
		return l
	}
	return l.with(r.draft.username.String(), NewSecret(r.draft.password.String()))
}

// freshness settles max_age, which every_frame does not have.
func (r *resolver) freshness() {
	d := &r.draft
	if d.Delivery != streams.EveryFrame {
		return
	}
	age, own, found := r.origin("max_age")
	_, ownDelivery, _ := r.origin("delivery")
	if found && own == ownDelivery || own {
		message := "is for delivery: freshest"
		if !ownDelivery && own {
			message += ", and defaults say every_frame"
		}
		r.Add(age.line, age.path, message, maxAgeHint)
		r.settle("max_age")
	}
	d.MaxAge = 0
}

// models holds the models against the folder.
func (r *resolver) models() {
	if r.settled["model"] || r.settled["models"] {
		r.settled["models"], r.settled["model"] = true, true
		return
	}
	e, _, found := r.origin("model", "models")
	if !found {
		if !r.onlyDefaults {
			hint := "write model: and the name of a model, here or under defaults"
			if r.repo.usable {
				hint += "; there is " + strings.Join(r.repo.names, ", ")
			}
			r.Add(r.own.line, r.own.path, "has no model", hint)
		}
		r.settled["model"], r.settled["models"] = true, true
		return
	}
	if !r.repo.usable {
		return
	}
	for _, name := range r.draft.Models {
		if !model.ValidName(name) {
			continue
		}
		if ok, hint := r.repo.knows(name); !ok {
			r.Add(e.line, e.path, joinNonEmpty(" ", r.value(e, finding{value: name}), "is not in the folder of models"), hint)
		} else {
			r.inspect(r.repo, name)
		}
	}
}

// rest reports what the finished camera says of itself, each at the line where it stands.
func (r *resolver) rest() {
	for _, f := range r.draft.findings() {
		name, below, _ := strings.Cut(f.key, ".")
		if r.settled[name] {
			continue
		}
		names := []string{name}
		if name == "models" || name == "model" {
			names = []string{"model", "models"}
		}
		e, own, found := r.origin(names...)
		if !found || r.onlyDefaults && own {
			continue
		}
		path := e.path
		if below != "" {
			path += "." + r.Word(below)
		}
		r.Add(e.line, path, joinNonEmpty(" ", r.value(e, f), f.wrong), f.hint)
	}
}

// value is the value of a finding as a message may show it.
func (r *resolver) value(e entry, f finding) string {
	switch {
	case f.value == "":
		return ""
	case e.tainted:
		return e.shown
	case f.plain && !slices.ContainsFunc(r.secrets, func(s string) bool { return s == f.value }):
		return f.value
	default:
		return r.show(f.value)
	}
}
