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
//
// # Lenient
//
// Devices write JSON with printf, into buffers of a fixed size. With
// Options.Lenient what is no JSON is read once more, by a reader that keeps
// what is whole:
//
//   - nan, inf, Infinity in any form, a value that is missing and a word that is
//     none of JSON's read as null; None, True and False as Python means them,
//   - a byte that is not UTF-8 reads as U+FFFD; UTF-16 is read,
//   - a byte order mark, NUL and blanks around the document are left out, and so
//     is what follows it, unless it is another document: that is one more,
//   - a value that the end cuts off reads as null, a name without a value is
//     left out; what is open is closed. A payload without one whole value is refused,
//   - a comma too many or missing, single quotes, names without quotes, control
//     bytes and unknown escapes in strings are read as they are meant.
//
// Members are never guessed at: a payload with something else wrong is refused as a whole.
package decode
