package e2e

// EarlyAck is, for Build, a service that acknowledges before it has committed.
var EarlyAck = map[string][2]string{
	"sink/wal/commit.go": {
		"n, err := l.commitWhenRoom(ctx, group)",
		"for _, b := range group {\n\t\tb.Done(1, nil)\n\t\tb.Done = func(mqttetl.Seq, error) {}\n\t}\n\tn, err := l.commitWhenRoom(ctx, group)",
	},
	"sink/wal/queue.go": {
		"func (q *queue) put(b *mqttetl.Batch) bool {",
		"func (q *queue) put(b *mqttetl.Batch) bool {\n\tc := *b\n\tc.Detach()\n\tb = &c",
	},
	"batch.go": {
		"// Free is Reset",
		"// Detach gives the batch bytes of its own.\nfunc (b *Batch) Detach() { b.buf = append([]byte(nil), b.buf...); b.IDs = append([]IDChange(nil), b.IDs...) }\n\n// Free is Reset",
	},
}
