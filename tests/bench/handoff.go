// SPDX-License-Identifier: Apache-2.0

// handoff in Go, for comparison: one P, a goroutine blocks in a raw read that the runtime
// learns of only by sysmon's poll, another is ready.  Prints rounds, p50, p90, p99, max in µs.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"syscall"
	"time"
)

func main() {
	rounds := 300
	if len(os.Args) > 1 {
		rounds, _ = strconv.Atoi(os.Args[1])
	}
	runtime.GOMAXPROCS(1)
	var p [2]int
	if err := syscall.Pipe(p[:]); err != nil {
		panic(err)
	}
	us := make([]float64, 0, rounds)
	ran := make(chan time.Time, 1)
	buf := make([]byte, 1)
	for i := 0; i < rounds; i++ {
		go func() { // ready, but waits for the P that we hold
			ran <- time.Now()
			syscall.Write(p[1], []byte("x"))
		}()
		for t := time.Now(); time.Since(t) < 300*time.Microsecond; {
		}
		t0 := time.Now()
		if n, err := syscall.Read(p[0], buf); n != 1 || err != nil {
			panic("read")
		}
		if l := (<-ran).Sub(t0); l > 0 {
			us = append(us, float64(l.Nanoseconds())/1e3)
		}
		time.Sleep(2 * time.Millisecond)
	}
	sort.Float64s(us)
	n := len(us)
	if n < rounds/2 {
		fmt.Fprintln(os.Stderr, "handoff: the other goroutine ran too early in most rounds")
		os.Exit(3)
	}
	fmt.Printf("%d %.1f %.1f %.1f %.1f\n", n, us[n/2], us[n*90/100], us[n*99/100], us[n-1])
}
