package main

import (
	"context"
	_ "embed"

	"github.com/mqttetl/mqttetl/test/service"
)

// profiling is one more file of command mqttetl that makes it write CPU
// profiles, for builds that are to be profiled.
//
//go:embed profiling.go.txt
var profiling string

// profileVariable names the file for the profile.
const profileVariable = "MQTTETL_PROFILE"

// build builds mqttetl from the checkout into dir.
func build(ctx context.Context, dir string, profiled bool) (binary string, err error) {
	if !profiled {
		return service.Build(ctx, dir, nil)
	}
	return service.Build(ctx, dir, service.Replace{"cmd/mqttetl/zz_profiling.go": {"", profiling}})
}
