// SPDX-License-Identifier: Apache-2.0

// The work of vs_go in Go; gbench.c has the same with ration, function by function.
//
//	gobench WORK [N]    prints lines "figure value"; GOMAXPROCS says how many Ps
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

var began = time.Now()

func now() int64 { return int64(time.Since(began)) }

func spin(d time.Duration) {
	for end := now() + int64(d); now() < end; {
	}
}

func figure(name string, v float64) { fmt.Printf("%s %.2f\n", name, v) }

func figureEach(began int64, n int) { figure("ns", float64(now()-began)/float64(n)) }

func die(what string, err error) {
	fmt.Fprintln(os.Stderr, what+":", err)
	os.Exit(1)
}

// As figure_latencies in vs_go.h.
func figureLatencies(ns []int64, rounds int) {
	n := len(ns)
	if n < rounds/2 || n == 0 {
		fmt.Fprintf(os.Stderr, "only %d of %d rounds counted: the other one ran too early\n", n, rounds)
		os.Exit(3)
	}
	sort.Slice(ns, func(i, j int) bool { return ns[i] < ns[j] })
	figure("p50_ns", float64(ns[n/2]))
	figure("p99_ns", float64(ns[n*99/100]))
	figure("rounds", float64(n))
}

// ---- spawn, run and join n Gs

func spawn(n int) {
	var wg sync.WaitGroup
	t := now()
	for i := 0; i < n; i++ {
		wg.Add(1)
		go wg.Done()
	}
	wg.Wait()
	figureEach(t, n)
}

// ---- two Gs yield in turns: a figure of one switch

func yield(n int) {
	var wg sync.WaitGroup
	turn := func() {
		for i := 0; i < n; i++ {
			runtime.Gosched()
		}
		wg.Done()
	}
	wg.Add(2)
	t := now()
	go turn()
	go turn()
	wg.Wait()
	figureEach(t, 2*n)
}

// ---- a round trip over two unbuffered channels

func roundTrip(n int) {
	ping, pong := make(chan int), make(chan int)
	go func() {
		for v := range ping {
			pong <- v
		}
		close(pong)
	}()
	t := now()
	for i := 0; i < n; i++ {
		ping <- i
		if <-pong != i {
			panic("chan: a wrong value came back")
		}
	}
	figureEach(t, n)
	close(ping)
	<-pong
}

// ---- n items through a channel with room for 128

func buffered(n int) {
	c := make(chan int, 128)
	t := now()
	go func() {
		for i := 0; i < n; i++ {
			c <- i
		}
		close(c)
	}()
	sum := 0
	for v := range c {
		sum += v
	}
	figureEach(t, n)
	if sum != n*(n-1)/2 {
		panic("bufchan: wrong sum")
	}
}

// ---- skynet: a tree of Gs, ten children each, n leaves; sums go up by channels

func skynetNode(up chan int, num, size int) {
	if size == 1 {
		up <- num
		return
	}
	c := make(chan int)
	for i := 0; i < 10; i++ {
		go skynetNode(c, num+i*(size/10), size/10)
	}
	sum := 0
	for i := 0; i < 10; i++ {
		sum += <-c
	}
	up <- sum
}

func skynet(n int) {
	c := make(chan int)
	t := now()
	go skynetNode(c, 0, n)
	sum := <-c
	figureEach(t, n)
	if sum != n*(n-1)/2 {
		panic("skynet: wrong sum")
	}
}

// ---- 100 Gs that lock, count and unlock, n times together

func mutex(n int) {
	const gs = 100
	var mu sync.Mutex
	var wg sync.WaitGroup
	count := 0
	wg.Add(gs)
	t := now()
	for i := 0; i < gs; i++ {
		go func() {
			for i := 0; i < n/gs; i++ {
				mu.Lock()
				count++
				mu.Unlock()
			}
			wg.Done()
		}()
	}
	wg.Wait()
	figureEach(t, n)
	if count != n/gs*gs {
		panic("mutex: lost updates")
	}
}

// ---- TCP echo, a G for each connection

func echo(int) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		die("listen", err)
	}
	figure("port", float64(l.Addr().(*net.TCPAddr).Port))
	for {
		c, err := l.Accept()
		if err != nil {
			die("accept", err)
		}
		go func() {
			buf := make([]byte, 1024)
			for {
				n, err := c.Read(buf)
				if err != nil {
					break
				}
				if _, err := c.Write(buf[:n]); err != nil {
					break
				}
			}
			c.Close()
		}()
	}
}

// ---- a G blocks in a system call, another is runnable: how long until that one runs?

func handoff(rounds int) {
	var p [2]int
	if err := syscall.Pipe(p[:]); err != nil {
		die("pipe", err)
	}
	buf := make([]byte, 1)
	handoffBy(300*time.Microsecond, rounds, func() {
		syscall.Write(p[1], []byte("x"))
	}, func() {
		if n, err := syscall.Read(p[0], buf); n != 1 || err != nil {
			die("read", err)
		}
	})
}

func handoffHeld(rounds int)  { handoffQueue(300*time.Microsecond, rounds) }
func handoffLater(rounds int) { handoffQueue(3*time.Millisecond, rounds) }

type message struct {
	kind int64
	c    [8]byte
}

// A message queue: what nothing can be polled for.
func handoffQueue(busy time.Duration, rounds int) {
	q, _, e := syscall.Syscall(syscall.SYS_MSGGET, 0, 0600, 0)
	if e != 0 {
		die("msgget", e)
	}
	in, out := message{}, message{kind: 1}
	handoffBy(busy, rounds, func() {
		if _, _, e := syscall.Syscall6(syscall.SYS_MSGSND, q, uintptr(unsafe.Pointer(&out)), 1, 0, 0, 0); e != 0 {
			die("msgsnd", e)
		}
	}, func() {
		if _, _, e := syscall.Syscall6(syscall.SYS_MSGRCV, q, uintptr(unsafe.Pointer(&in)), 1, 0, 0, 0); e != 0 {
			die("msgrcv", e)
		}
	})
	syscall.Syscall(syscall.SYS_MSGCTL, q, 0, 0)
}

func handoffBy(busy time.Duration, rounds int, unblock, block func()) {
	ns := make([]int64, 0, rounds)
	ran := make(chan int64, 1)
	for i := 0; i < rounds; i++ {
		go func() { // runnable, but we have the P
			ran <- now()
			unblock()
		}()
		spin(busy)
		t := now()
		block()
		if d := <-ran - t; d > 0 {
			ns = append(ns, d)
		}
		time.Sleep(2 * time.Millisecond)
	}
	figureLatencies(ns, rounds)
}

// ---- a G spins and makes another one runnable: how long until that one runs?  Made so at another point of the slice each time.

func preempt(rounds int) {
	var ran atomic.Int64
	wake := make(chan int, 1)
	ns := make([]int64, 0, rounds)
	go func() {
		for range wake {
			ran.Store(now())
		}
	}()
	time.Sleep(5 * time.Millisecond)
	for i := 0; i < rounds; i++ {
		spin(time.Duration(i%8) * time.Millisecond)
		ran.Store(0)
		t := now()
		wake <- i
		for ran.Load() == 0 {
		}
		ns = append(ns, ran.Load()-t)
	}
	figureLatencies(ns, rounds)
}

// ---- 64 Gs that read pages of a file, here and there, that are not in the cache

const (
	diskReaders = 64
	diskPages   = 16384
	diskPage    = 4096
)

func coldFile() *os.File {
	f, err := os.CreateTemp("/tmp", "ration-disk-")
	if err != nil {
		die("create", err)
	}
	os.Remove(f.Name())
	mib := make([]byte, 1<<20)
	for i := 0; i < diskPages/256; i++ {
		if _, err := f.Write(mib); err != nil {
			die("write", err)
		}
	}
	if err := f.Sync(); err != nil {
		die("fsync", err)
	}
	const random, dontneed = 1, 4 // POSIX_FADV_*
	syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, random, 0, 0)
	syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontneed, 0, 0)
	return f
}

func disk(n int) {
	var wg sync.WaitGroup
	f := coldFile()
	wg.Add(diskReaders)
	t := now()
	for i := uint32(0); i < diskReaders; i++ {
		go func(x uint32) {
			page := make([]byte, diskPage)
			for k := 0; k < n/diskReaders; k++ {
				x = x*1103515245 + 12345
				if _, err := f.ReadAt(page, int64((x>>8)%diskPages)*diskPage); err != nil {
					die("pread", err)
				}
			}
			wg.Done()
		}(i * 7919)
	}
	wg.Wait()
	figureEach(t, n)
	figure("threads", procKB("/proc/self/status", "Threads"))
}

// ---- n parked Gs: what does each hold?

func procKB(path, key string) float64 {
	text, err := os.ReadFile(path)
	if err != nil {
		die(path, err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key+":" {
			kb, _ := strconv.ParseFloat(f[1], 64)
			return kb
		}
	}
	return 0
}

func resident() float64 {
	return 1024 * (procKB("/proc/self/smaps_rollup", "Rss") + procKB("/proc/self/status", "VmPTE"))
}

func parked(n int) {
	block := make(chan int)
	var wg sync.WaitGroup
	before := resident()
	wg.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			wg.Done()
			<-block
		}()
	}
	wg.Wait()
	time.Sleep(200 * time.Millisecond)
	figure("bytes", (resident()-before)/float64(n))
}

func main() {
	works := []struct {
		name string
		run  func(int)
		n    int
	}{
		{"spawn", spawn, 1000000}, {"yield", yield, 1000000}, {"chan", roundTrip, 500000}, {"bufchan", buffered, 2000000},
		{"skynet", skynet, 1000000}, {"mutex", mutex, 2000000}, {"echo", echo, 1}, {"handoff", handoff, 100},
		{"handoffheld", handoffHeld, 100}, {"handoff3", handoffLater, 100}, {"handoffraw", handoff, 100}, {"preempt", preempt, 32}, {"disk", disk, 4096},
		{"parked", parked, 1000000},
	}
	for _, w := range works {
		if len(os.Args) > 1 && os.Args[1] == w.name {
			if len(os.Args) > 2 {
				w.n, _ = strconv.Atoi(os.Args[2])
			}
			w.run(w.n)
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: gobench WORK [N]")
	os.Exit(2)
}
