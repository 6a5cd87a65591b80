package compare

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// asRole tells a child of the test binary to be a server, or the pipeline.
const asRole = "MQTTETL_TEST_COMPARE_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(asRole) != "" && len(os.Args) == 5 && os.Args[2] == "serve" {
		if err := Serve(context.Background(), os.Args[3], os.Args[4], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Setenv(asRole, "1")
	os.Exit(m.Run())
}
