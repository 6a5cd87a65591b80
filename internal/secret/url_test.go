package secret

import (
	"strings"
	"testing"
)

func TestNoErrorHoldsAPassword(t *testing.T) {
	for _, text := range []string{
		"mqtt://me:hush%zz@h:1883", "mqtt://me:hu/sh@h", "mqtt://me:hush @h", "mqtt://me:hush@h:port", "mqtt://hush%@h",
		"://me:hush@h", "mqtt://me:hush@[::1", "mqtt://me:hush\x7f@h", "nats://a:hush@h,nats://b:%hush@h2", "ws://me:hu@h:x/?hush",
	} {
		u, err := ParseURL(text)
		if err == nil {
			t.Errorf("ParseURL(%q) = %s, want an error", text, u)
		} else if got := err.Error(); strings.Contains(got, "hu") || !strings.Contains(got, "***@") {
			t.Errorf("ParseURL(%q): %s", text, got)
		}
	}
	if _, err := ParseURL("mqtt://h:port"); err == nil || !strings.Contains(err.Error(), "port") {
		t.Errorf("without a password the place of the fault is named, got %v", err)
	}
}

func TestURL(t *testing.T) {
	for text, want := range map[string]string{
		"mqtt://h:1883":                     "mqtt://h:1883",
		"mqtt://me:hush@h:1883/x":           "mqtt://***@h:1883/x",
		"nats://token@h":                    "nats://***@h",
		"nats://a:hush@h1,nats://b:hush@h2": "nats://***@h2",
		"mqtt://me:hu@sh/@h":                "mqtt://***@h",
		"me:hush@h":                         "***@h",
		"mqtt:/me:hush@h":                   "***@h",
		"ws://h:80/mqtt?token=hush":         "ws://h:80/mqtt?***",
		"ws://me:hu@h/?a=hush@b":            "ws://***@b",
		"wss://me:hush@h/mqtt?token=hush":   "wss://***@h/mqtt?***",
		"":                                  "",
	} {
		if got := URL(text); got != want {
			t.Errorf("URL(%q) = %q, want %q", text, got, want)
		}
	}
}
