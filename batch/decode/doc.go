// Package decode turns payloads into documents, and finds the few values that
// a route wants in one.
//
// A document is what jq works on: nil, bool, int, *big.Int, float64,
// json.Number (only for numbers that a float64 cannot hold, such as 1e400),
// string, []any and map[string]any. Byte strings are Bytes until ForJQ makes
// base64 of them.
//
// The package keeps one promise: whatever the payload, a decoder ends, with
// documents whose size is bounded by Options.MaxBytes or with an error that
// names what is wrong and where. Numbers are never rounded on the way: an
// integer stays exact however long it is.
//
// JSON has two readers. The Extractor walks the payload once, checks all of it
// and remembers where a few paths lead, without a tree and without allocating.
// The decoder of New builds the tree. Both accept the same payloads and give
// the same values:
//
//   - of equal names in one object the last one counts,
//   - invalid UTF-8 is an error, as is NaN; half of a surrogate pair in an
//     escape reads as U+FFFD,
//   - arrays and objects nest at most Options.MaxDepth deep,
//   - a number has at most 1000 characters,
//   - a number beyond float64 is kept as it is written and is an error for who
//     asks for a float.
package decode
