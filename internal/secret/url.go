// Package secret parses and prints URLs that may hold a password or a token.
// Its invariant: no text and no error that it returns holds a byte of what
// is between the scheme and the last "@" of a URL, or after its "?".
package secret

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ParseURL is url.Parse with errors that can be shown to anybody.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil {
		return u, nil
	}
	if strings.ContainsAny(text, "@?") { // url.Parse quotes the place, which may be the password
		return nil, fmt.Errorf("%s cannot be read: in user and password every character but letters and digits is written %%XX (@ is %%40, / is %%2F)", URL(text))
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return nil, fmt.Errorf("%q is not a URL: %w", text, err)
}

// URL is a URL, or a comma list of them, that can be shown to anybody: "***"
// stands in place of each user, password and token, and of a query, which may hold
// one. A user alone is hidden too, for it is a token to NATS. The text need not be a valid URL.
func URL(text string) string {
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		begin := 0
		if i := strings.Index(text[:at], "://"); i >= 0 {
			begin = i + len("://")
		}
		text = text[:begin] + "***" + text[at:]
	}
	if front, _, found := strings.Cut(text, "?"); found {
		return front + "?***"
	}
	return text
}
