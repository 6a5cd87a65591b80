package simulate

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// profile is a kind of device.
type profile struct {
	name  string
	about string
	burst int   // readings that it sends at once
	each  []int // messages of one reading, of the kinds of device in turn
	make  func(n int, r *rand.Rand) thing
}

var profiles = []profile{
	{"zigbee2mqtt", "climate, motion and contact sensors, plugs and bulbs of Zigbee2MQTT: flat JSON with last_seen and linkquality", 1, []int{1}, zigbee},
	{"tasmota", "tele/…/STATE and SENSOR: plugs, three-phase meters with arrays, temperature sensors", 1, []int{2}, tasmota},
	{"sparkplug", "Sparkplug B edge nodes: NBIRTH and DBIRTH, then DDATA and NDATA by alias, protobuf", 1, []int{1}, sparkplug},
	{"industrial", "PLC and OPC: gateway JSON, OPC UA PubSub JSON, bare numbers a tag, packed registers", 1, []int{1, 4, 1, 1}, industrial},
	{"wearable", "heart rate, JSON and BLE measurements, in bursts of what was read since the last", 10, []int{1}, wearable},
}

// All is the name that means every profile in turn.
const All = "all"

// Profiles returns the names of the profiles and a line about each.
func Profiles() (names, about []string) {
	for _, p := range profiles {
		names, about = append(names, p.name), append(about, p.about)
	}
	return names, about
}

// find returns the profiles that a list with commas names.
func find(list string) (found []profile, err error) {
	if list == All {
		return profiles, nil
	}
	names, _ := Profiles()
	for name := range strings.SplitSeq(list, ",") {
		before := len(found)
		for _, p := range profiles {
			if p.name == strings.TrimSpace(name) {
				found = append(found, p)
			}
		}
		if len(found) == before {
			return nil, fmt.Errorf("profile %q is not known, there are %s and %s", name, strings.Join(names, ", "), All)
		}
	}
	return found, nil
}

// profile is that of the n-th device of a group that has been checked.
func (g *Group) profile(n int) *profile {
	found, _ := find(g.Profile)
	return &found[n%len(found)]
}

// serial counts the devices of one profile within the group, so that each kind
// within one appears.
func (g *Group) serial(n int) int {
	found, _ := find(g.Profile)
	return g.First + n/len(found)
}
