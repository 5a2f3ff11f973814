// Package secrets makes what a broker for development needs to be as closed as one in production: an authority, a certificate
// for its nodes, and a key for every user. Nothing that it makes is a default that anybody else has.
//
// # Modes
//
// The folder is 0700 and the files in it are 0444, private keys and seeds included: containers run as a user that exists on no
// machine (65532), and a file that is mounted into one must be readable by it. On the machine itself nobody but the owner gets
// through the folder. The authority's own key is mounted nowhere and is 0600.
package secrets

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/sightline-dev/sightline/deploy/nats/access"
)

// Names of the files.
const (
	CA       = "ca.pem"
	caKey    = "ca.key"
	Cert     = "node.pem"
	Key      = "node.key"
	Env      = "nats.env"
	seedFile = ".nk"
)

const (
	folderMode fs.FileMode = 0o700
	fileMode   fs.FileMode = 0o444
	ownMode    fs.FileMode = 0o600

	caLife, nodeLife = 10 * 365 * 24 * time.Hour, 365 * 24 * time.Hour
	// renewWithin is how long before its end a node's certificate is made anew.
	renewWithin = 30 * 24 * time.Hour
)

// Hosts are the names under which nodes of the compose file are reached.
func Hosts() []string {
	return []string{"nats-1", "nats-2", "nats-3", "nats", "localhost", "127.0.0.1"}
}

// Seed is the name of the file with a user's seed.
func Seed(user string) string { return user + seedFile }

// Make makes what is absent in dir and returns the names of the files that it wrote. The users in rotate get new seeds; servers
// and clients learn of them when they are started again, servers first.
func Make(dir string, now time.Time, rotate ...string) ([]string, error) {
	for _, name := range rotate {
		if !slices.ContainsFunc(access.Users(), func(u access.User) bool { return u.Name == name }) {
			return nil, fmt.Errorf("secrets: there is no user %s", name)
		}
	}
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	if err := os.Chmod(dir, folderMode); err != nil {
		return nil, fmt.Errorf("secrets: %w", err)
	}
	m := maker{dir: dir, now: now}
	if err := errors.Join(m.certificates(), m.users(rotate)); err != nil {
		return m.wrote, fmt.Errorf("secrets: %w", err)
	}
	return m.wrote, nil
}

type maker struct {
	dir   string
	now   time.Time
	wrote []string
}

// put writes a file as a whole or not at all: two that run at the same time leave no half of one.
func (m *maker) put(name string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(m.dir, "."+name+"-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(m.dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	m.wrote = append(m.wrote, name)
	return nil
}

func (m *maker) read(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(m.dir, name)) //nolint:gosec // the caller names the folder
}

// users makes seeds, and the list of public keys that servers read.
func (m *maker) users(rotate []string) error {
	var env bytes.Buffer
	env.WriteString("# Public keys of the broker's users, for nats-server. No secret.\n")
	for _, u := range access.Users() {
		public, err := m.user(u.Name, slices.Contains(rotate, u.Name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&env, "%s=%s\n", u.Variable(), public)
	}
	if have, err := m.read(Env); err == nil && bytes.Equal(have, env.Bytes()) {
		return nil
	}
	return m.put(Env, env.Bytes(), fileMode)
}

// user is a user's public key. Its seed is made if there is none.
func (m *maker) user(name string, anew bool) (string, error) {
	seed, err := m.read(Seed(name))
	if anew || errors.Is(err, fs.ErrNotExist) {
		pair, err := nkeys.CreateUser()
		if err != nil {
			return "", err
		}
		defer pair.Wipe()
		if seed, err = pair.Seed(); err != nil {
			return "", err
		}
		if err := m.put(Seed(name), append(slices.Clone(seed), '\n'), fileMode); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	pair, err := nkeys.FromSeed(bytes.TrimSpace(seed))
	if err != nil {
		return "", fmt.Errorf("%s is no seed: remove it and run this again", Seed(name))
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err == nil && !strings.HasPrefix(public, "U") {
		err = fmt.Errorf("%s is no user's seed: remove it and run this again", Seed(name))
	}
	return public, err
}

// certificates makes the authority and the nodes' certificate.
func (m *maker) certificates() error {
	ca, key, err := m.authority()
	if err != nil {
		return err
	}
	if node, err := m.certificate(Cert); err == nil && m.good(node, ca) {
		if _, err := m.read(Key); err == nil {
			return nil
		}
	}
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: "sightline nats"}, NotBefore: m.now.Add(-time.Hour), NotAfter: m.now.Add(nodeLife),
		KeyUsage: x509.KeyUsageDigitalSignature,
		// A node is a client, too: of the other nodes.
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, h := range Hosts() {
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	return m.sign(c, ca, key, Cert, Key, fileMode)
}

// good reports whether a certificate serves for a while yet.
func (m *maker) good(node, ca *x509.Certificate) bool {
	for _, h := range Hosts() {
		if node.VerifyHostname(h) != nil {
			return false
		}
	}
	return node.CheckSignatureFrom(ca) == nil && m.now.Add(renewWithin).Before(node.NotAfter)
}

func (m *maker) authority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	ca, err := m.certificate(CA)
	if errors.Is(err, fs.ErrNotExist) {
		c := &x509.Certificate{
			Subject: pkix.Name{CommonName: "sightline development"}, NotBefore: m.now.Add(-time.Hour), NotAfter: m.now.Add(caLife),
			IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		if err = m.sign(c, nil, nil, CA, caKey, ownMode); err == nil {
			ca, err = m.certificate(CA)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	data, err := m.read(caKey)
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, nil, fmt.Errorf("%s is no key: remove it and %s and run this again", caKey, CA)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	return ca, key, err
}

func (m *maker) certificate(name string) (*x509.Certificate, error) {
	data, err := m.read(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s is no certificate: remove it and run this again", name)
	}
	return x509.ParseCertificate(block.Bytes)
}

// sign makes a key and a certificate for it, signed by an authority or, without one, by itself.
func (m *maker) sign(c, ca *x509.Certificate, caKey *ecdsa.PrivateKey, certFile, keyFile string, keyMode fs.FileMode) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return err
	}
	if ca == nil {
		ca, caKey = c, key
	}
	cert, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := m.put(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), keyMode); err != nil {
		return err
	}
	return m.put(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), fileMode)
}
