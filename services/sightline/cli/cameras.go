package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/pkg/catalog"
	"github.com/sightline-dev/sightline/pkg/config"
	"github.com/sightline-dev/sightline/pkg/events"
	"github.com/sightline-dev/sightline/pkg/lease"
	"github.com/sightline-dev/sightline/services/sightline/watch"
	"github.com/sightline-dev/sightline/streams"
)

func (a *app) cameras() *cobra.Command {
	return &cobra.Command{
		Use:   "cameras",
		Short: "List cameras: what is wanted, who captures them, and how they are",
		Long: `List the cameras of a running system with their last reported state, the cause when they are down, and the ingest
instance that holds their lease. Credentials are never shown.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			nc, js, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer nc.Close()
			rows, err := cameraRows(cmd.Context(), js)
			if err != nil {
				return err
			}
			return a.printCameras(rows)
		},
	}
}

// cameraRow is one camera for people and programs.
type cameraRow struct {
	config.Camera
	State  string
	Cause  string
	Since  time.Time
	Holder string
}

// MarshalJSON adds what is known of the camera to what is wanted of it.
func (r cameraRow) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Camera config.Camera `json:"camera"`
		State  string        `json:"state"`
		Cause  string        `json:"cause,omitempty"`
		Since  time.Time     `json:"since,omitzero"`
		Holder string        `json:"holder,omitempty"`
	}{r.Camera, r.State, r.Cause, r.Since, r.Holder})
}

func cameraRows(ctx context.Context, js jetstream.JetStream) ([]cameraRow, error) {
	wanted, unreadable, err := catalog.Cameras(ctx, js)
	if err != nil {
		return nil, err
	}
	leases, err := js.KeyValue(ctx, streams.LeasesBucket)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", streams.LeasesBucket, err)
	}
	stream, err := js.Stream(ctx, streams.Events)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", streams.Events, err)
	}
	var rows []cameraRow
	for _, name := range unreadable {
		rows = append(rows, cameraRow{Camera: config.Camera{Name: name}, State: "unreadable settings: apply the file again"})
	}
	for _, c := range wanted {
		row := cameraRow{Camera: c, State: "unclaimed"}
		if !c.Enabled {
			row.State = "disabled"
		}
		if e, err := leases.Get(ctx, c.Name); err == nil {
			if h, err := lease.Decode(e.Value()); err == nil {
				row.Holder = h.Instance
			}
		} else if !errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil, fmt.Errorf("lease %s: %w", c.Name, err)
		}
		if m, err := stream.GetLastMsgForSubject(ctx, streams.EventSubject("camera", "state", c.Name)); err == nil && row.Holder != "" {
			if e, err := events.Decode(m.Data); err == nil {
				row.State, row.Cause, row.Since = e.State, e.Cause, e.At
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (a *app) printCameras(rows []cameraRow) error {
	if a.json {
		for _, r := range rows {
			if err := a.writeJSON(r); err != nil {
				return err
			}
		}
		return nil
	}
	lines := [][]string{{"CAMERA", "STATE", "SINCE", "FPS", "DELIVERY", "MODELS", "HOLDER", "URL"}}
	for _, r := range rows {
		state := r.State
		if r.Cause != "" {
			state += ": " + r.Cause
		}
		since := ""
		if !r.Since.IsZero() {
			since = r.Since.Local().Format(time.DateTime)
		}
		lines = append(lines, []string{r.Name, state, since, r.FPS.String(), string(r.Delivery), strings.Join(r.Models, ","), r.Holder, r.URL.String()})
	}
	return watch.WriteColumns(a.std.Out, 8, lines)
}
