package top

import (
	"context"
	"fmt"
	"io"
	"time"

	tea "github.com/charmbracelet/bubbletea"
)

// Show shows pictures on a terminal until its user has seen enough, or ctx ends.
func Show(ctx context.Context, in io.Reader, out io.Writer, picture func(time.Time) Picture, ascii bool) error {
	program := tea.NewProgram(screen{picture: picture, show: picture(time.Now()), on: Screen{Width: 100, Height: 30, ASCII: ascii}},
		tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithAltScreen())
	_, err := program.Run()
	if err != nil && ctx.Err() == nil { // Ctrl-C is how it ends
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}

// tick asks for the next picture.
type tick time.Time

// screen is the state of the terminal.
type screen struct {
	picture func(time.Time) Picture
	show    Picture
	on      Screen
}

var _ tea.Model = screen{}

// Init is called once.
func (s screen) Init() tea.Cmd { return next() }

func next() tea.Cmd { return tea.Tick(Every, func(t time.Time) tea.Msg { return tick(t) }) }

// Update takes what happens: time passes, the terminal is resized, a key is pressed.
func (s screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tick:
		s.show = s.picture(time.Time(msg))
		return s, next()
	case tea.WindowSizeMsg:
		s.on.Width, s.on.Height = msg.Width, msg.Height
	case tea.KeyMsg:
		last := max(len(s.show.Cameras)-1, 0)
		switch msg.String() {
		case "q", "esc", "ctrl+c":
			return s, tea.Quit
		case "up", "k":
			s.on.Scroll = max(s.on.Scroll-1, 0)
		case "down", "j":
			s.on.Scroll = min(s.on.Scroll+1, last)
		case "pgdown", " ":
			s.on.Scroll = min(s.on.Scroll+10, last)
		case "pgup":
			s.on.Scroll = max(s.on.Scroll-10, 0)
		case "home":
			s.on.Scroll = 0
		}
	}
	return s, nil
}

// View is what the terminal shows.
func (s screen) View() string { return s.show.Draw(s.on) }
