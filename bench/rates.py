"""A message in twenty lines: on disk in a commit of its own, and acknowledged after it."""
import signal, sqlite3, sys, time
import paho.mqtt.client as mqtt

host, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
db = sqlite3.connect(path, isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA synchronous = FULL")
db.execute("CREATE TABLE IF NOT EXISTS messages(time INTEGER, topic TEXT, payload BLOB)")

def store(client, _, m):
    db.execute("INSERT INTO messages VALUES(?, ?, ?)", (time.time_ns(), m.topic, m.payload))

version = getattr(mqtt, "CallbackAPIVersion", None)  # since paho-mqtt 2
client = mqtt.Client(*([version.VERSION2] if version else []), client_id="script", clean_session=False)
client.on_connect = lambda client, *_: client.subscribe("bench/#", qos=1)
client.on_message = store
signal.signal(signal.SIGTERM, lambda *_: client.disconnect())
client.connect(host, port)
client.loop_forever()
db.close()
