// Package reporters is what a service says of itself, and to whom: over HTTP, to the
// service manager, as metrics of the process; and how it is asked. What of the memory
// it does not need it gives back to the system.
package reporters
