package natsmsg_test

import (
	"fmt"

	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// A subject can be computed back to the topic that it was made of.
func ExampleSubject() {
	for _, topic := range []string{"factory/1/temp", "a.b/c d", "/", "*"} {
		subject, _ := natsmsg.Subject("mqtt", []byte(topic))
		back, err := natsmsg.Topic("mqtt", subject)
		fmt.Println(subject, string(back) == topic, err)
	}
	// Output:
	// mqtt.factory.1.temp true <nil>
	// mqtt.a%2Eb.c%20d true <nil>
	// mqtt.%.% true <nil>
	// mqtt.%2A true <nil>
}
