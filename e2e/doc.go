// Package e2e tries Sightline as people run it: the images, the compose file, a broker of three nodes with its users, in
// containers of this machine. Its tests have the build tag e2e and run by `make e2e`; docs/e2e.md says what they show.
//
// # What it may use
//
// What an application and an operator may: the two users of the broker, the container engine, and the commands of the README.
// No image has a hook for tests.
//
// # Cleaning up
//
// Everything bears a label and is removed at the end and, should a run have died, at the beginning of the next. Logs of all
// containers are kept when a scenario fails.
package e2e
