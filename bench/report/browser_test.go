//go:build brokers

package report

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// browser is a page of a headless Chromium, driven by its DevTools protocol.
type browser struct {
	*websocket.Conn
	t       *testing.T
	last    int
	session string
	events  []event
}

type event struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// openBrowser starts Chromium; it ends with the test.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: apt-get install chromium")
	}
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--user-data-dir="+t.TempDir(), "--remote-debugging-port=0",
		"--window-size=1000,1400", "about:blank")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	var log bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			log.Write(append(lines.Bytes(), '\n'))
			if _, url, ok := strings.Cut(lines.Text(), "DevTools listening on "); ok {
				address <- url
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-read
		cmd.Wait()
		if said := regexp.MustCompile(`(?m)^.*CONSOLE.*$`).FindAllString(log.String(), -1); len(said) > 0 {
			t.Errorf("the console says %q", said)
		}
	})
	b := &browser{t: t}
	select {
	case url := <-address:
		if b.Conn, _, err = websocket.DefaultDialer.Dial(url, nil); err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Chromium does not start")
	}
	t.Cleanup(func() { b.Close() })
	var target struct{ TargetID string }
	b.ask("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.ask("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.ask(domain+".enable", nil, nil)
	}
	return b
}

// ask calls a method and waits for its answer; events before it are kept.
func (b *browser) ask(method string, params any, answer any) {
	b.t.Helper()
	b.last++
	if params == nil {
		params = struct{}{}
	}
	question := map[string]any{"id": b.last, "method": method, "params": params}
	if b.session != "" {
		question["sessionId"] = b.session
	}
	if err := b.WriteJSON(question); err != nil {
		b.t.Fatal(err)
	}
	for {
		var m struct {
			event
			ID     int
			Result json.RawMessage
			Error  json.RawMessage
		}
		b.next(&m)
		if m.ID == 0 {
			b.events = append(b.events, m.event)
			continue
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error)
		}
		if answer != nil {
			if err := json.Unmarshal(m.Result, answer); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
}

func (b *browser) next(m any) {
	b.t.Helper()
	b.SetReadDeadline(time.Now().Add(time.Minute))
	if err := b.ReadJSON(m); err != nil {
		b.t.Fatal(err)
	}
}

// open shows a file and waits until it is loaded.
func (b *browser) open(path string) {
	b.t.Helper()
	b.ask("Page.navigate", map[string]any{"url": "file://" + path}, nil)
	for {
		for _, e := range b.events {
			if e.Method == "Page.loadEventFired" {
				return
			}
		}
		var e event
		b.next(&e)
		b.events = append(b.events, e)
	}
}

// evaluate runs an expression in the page.
func (b *browser) evaluate(expression string, value any) {
	b.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.ask("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &answer)
	if answer.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, answer.ExceptionDetails)
	}
	if err := json.Unmarshal(answer.Result.Value, value); err != nil {
		b.t.Fatal(err)
	}
}

// complaints are console messages, exceptions, errors, and requests for more
// than the page itself.
func (b *browser) complaints(page string) (all []string) {
	for _, e := range b.events {
		switch e.Method {
		case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
			all = append(all, e.Method+": "+string(e.Params))
		case "Network.requestWillBeSent":
			var p struct{ Request struct{ URL string } }
			if json.Unmarshal(e.Params, &p); p.Request.URL != "file://"+page && !strings.HasPrefix(p.Request.URL, "data:") {
				all = append(all, "request of "+p.Request.URL)
			}
		}
	}
	return all
}

// drawing is one SVG as it is laid out.
type drawing struct {
	ID            string
	Width, Height float64
	Marks         int      // rectangles and lines with a size
	Cut           []string // texts that do not fit into it
}

const measureDrawings = `[...document.querySelectorAll('svg')].map(s => {
  const box = s.getBoundingClientRect(), view = s.viewBox.baseVal
  return {ID: s.id, Width: box.width, Height: box.height,
    Marks: [...s.querySelectorAll('rect, polyline')].filter(m => { const b = m.getBoundingClientRect(); return b.width > 0 && b.height > 0 && getComputedStyle(m).visibility === 'visible' }).length,
    Cut: [...s.querySelectorAll('text')].filter(t => { const b = t.getBBox(); return b.x < 0 || b.y < 0 || b.x + b.width > view.width || b.y + b.height > view.height }).map(t => t.textContent)}
})`

// picture is the page as it is shown: how many colours are in it, and that of
// its corner.
func (b *browser) picture() (colours int, corner uint32) {
	b.t.Helper()
	var shot struct{ Data string }
	b.ask("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	raw, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		b.t.Fatal(err)
	}
	seen := map[uint32]bool{}
	at := func(x, y int) uint32 { r, g, bl, _ := m.At(x, y).RGBA(); return r>>8<<16 | g>>8<<8 | bl>>8 }
	for y := range m.Bounds().Dy() {
		for x := range m.Bounds().Dx() {
			seen[at(x, y)] = true
		}
	}
	return len(seen), at(0, 0)
}

// The page in a browser, light, dark and on paper: every drawing has a size and
// something in it, no text is cut off, and nobody complains.
func TestHTMLInChromium(t *testing.T) {
	for name, r := range map[string]func(*testing.T) string{
		"sample":    func(t *testing.T) string { return rendered(t, sample(t)) },
		"a bad day": func(t *testing.T) string { return rendered(t, bad(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "report.html")
			text := r(t)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			b := openBrowser(t)
			b.open(path)
			corners := map[uint32]bool{}
			for _, media := range []struct{ media, scheme string }{{"screen", "light"}, {"screen", "dark"}, {"print", "light"}} {
				b.ask("Emulation.setEmulatedMedia", map[string]any{"media": media.media,
					"features": []map[string]string{{"name": "prefers-color-scheme", "value": media.scheme}}}, nil)
				b.checkDrawings(strings.Count(text, "<svg "))
				colours, corner := b.picture()
				if colours < 20 {
					t.Errorf("%v: %d colours on the picture", media, colours)
				}
				if corners[corner] = true; media.scheme == "dark" != (corner < 0x404040) {
					t.Errorf("%v: the paper is %06x", media, corner)
				}
			}
			var wide float64
			b.ask("Emulation.setEmulatedMedia", map[string]any{"media": "screen"}, nil)
			if b.evaluate(`document.documentElement.scrollWidth - innerWidth`, &wide); wide > 0 {
				t.Errorf("the page is %v px wider than its window", wide)
			}
			var pdf struct{ Data string }
			b.ask("Page.printToPDF", nil, &pdf)
			if raw, _ := base64.StdEncoding.DecodeString(pdf.Data); !bytes.HasPrefix(raw, []byte("%PDF-")) || len(raw) < 20_000 {
				t.Errorf("a PDF of %d bytes", len(raw))
			}
			if all := b.complaints(path); len(all) > 0 {
				t.Errorf("%s", strings.Join(all, "\n"))
			}
		})
	}
}

func (b *browser) checkDrawings(want int) {
	b.t.Helper()
	var all []drawing
	b.evaluate(measureDrawings, &all)
	if len(all) != want || want < 10 {
		b.t.Errorf("%d drawings, the file has %d", len(all), want)
	}
	for _, d := range all {
		if d.Width < 100 || d.Height < 50 || d.Marks == 0 && !strings.HasSuffix(d.ID, "-bars") || len(d.Cut) > 0 {
			b.t.Errorf("%+v", d)
		}
	}
}
