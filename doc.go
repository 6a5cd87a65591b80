// Package mqttetl holds the words that every package of the program shares:
// Message, Record, Seq, Batch, and the errors that callers wait out or act on.
//
// A message that mqttetl has acknowledged is on disk. Everything after that is
// catching up. The packages below keep that promise, each one its part of it:
//
//	ingest        sources: connections to brokers
//	ingest/door   listeners: devices connect to us
//	ingest/session  the data plane of both: a PUBACK leaves only after its record is on disk
//	sink/wal      the append log in LMDB: append, group commit, read, cursors, trim, verify
//	sink/archive  the SQLite archive: rows and resume point in one transaction
//	sink/store    the words for what an archive keeps beside messages
//	batch         drains the log into an archive; batch/decode reads payloads,
//	              batch/transform makes rows of them as the routes say
//	forward       everything that leaves the program: the JetStream forwarder,
//	              and the publisher of what routes map
//	bench         the cost of each stage of the pipeline; bench/compare and
//	              bench/report are mqttetl bench
//	internal/pipeline  puts the parts together
//	cmd/mqttetl   flags, output and exit codes, one file a command
//
// What has been kept comes back through sink/history (archive and log as one
// sequence), forward/export (NDJSON, CSV, Parquet) and forward/replay (to NATS,
// MQTT and standard output); ingest/importer puts recordings into the log.
//
// Movers (ingest, batch, forward) move data; stores (sink/wal, sink/archive)
// keep it. Movers speak the words of this package and never import a sibling
// mover; the log they see through small interfaces of their own.
// internal/pipeline puts them together.
//
// This package imports the standard library only.
package mqttetl
