package servers

import (
	"net"
	"strconv"
	"testing"
)

// Nobody gets an address twice, though no one listens there.
func TestFreeAddrIsClaimed(t *testing.T) {
	addr, err := FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(text)
	if again, err := claimAddr(port); err == nil {
		t.Errorf("%s was given away again", again)
	}
}
