package transform

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/sink/store"
)

// mend reads a value that is not of the column's type as far as it is certain: what is not a number
// as NULL, text with a unit or a decimal comma as its number.
func (j *job) mend(c *column, err error) (store.Value, error) {
	if j.w.Strict || j.w.Decode == "sparkplug_b" {
		return store.Value{}, err
	}
	if errors.As(err, new(notFiniteError)) {
		j.note(Mended, fmt.Sprintf("column %s: %v: NULL", c.Name, err))
		return store.Value{}, nil
	}
	if text, ok := errors.AsType[notNumberError](err); ok {
		if v, what, ok := decode.MendNumber(text.s); ok {
			j.note(Mended, fmt.Sprintf("column %s: %s", c.Name, what))
			return convert(v, c.Type)
		}
	}
	return store.Value{}, err
}

// exact is the payload where that is one number or word: v is what jq would see of it.
func (j *job) exact(v any) any {
	switch v.(type) {
	case bool, int, float64, *big.Int, json.Number:
		return decode.Trim(string(j.payload))
	}
	return v
}
