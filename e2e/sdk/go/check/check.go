// Package check has how scenarios wait and judge.
package check

import (
	"fmt"
	"os"
	"time"
)

// Deadline is long enough for a loaded machine.
const Deadline = 60 * time.Second

// That ends the program unless what was expected holds.
func That(holds bool, what ...any) {
	if !holds {
		fmt.Println(what...)
		os.Exit(1)
	}
}

// Done ends the program if there is a problem.
func Done(problem error, what ...any) {
	That(problem == nil, append(what, problem)...)
}

// Eventually ends the program unless the probe finds no problem before the deadline: the sidecar may be away, or not know of everybody
// yet.
func Eventually(what string, probe func() error) {
	end := time.Now().Add(Deadline)
	for {
		problem := probe()
		if problem == nil {
			return
		}
		That(time.Now().Before(end), "waited for", what, problem)
		time.Sleep(50 * time.Millisecond)
	}
}
