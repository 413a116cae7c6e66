// Command pause holds a pod's namespaces while its containers come and go. Where they share a process
// namespace it is their init: it reaps what they leave behind. It ends at once when it is told to.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// Two channels: however many children end, the word to end is never lost among them.
	end, children := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		reap()
		select {
		case <-end:
			return
		case <-children:
		}
	}
}

// reap takes the exit of every child that has ended: one signal may stand for several.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err != syscall.EINTR && (err != nil || pid == 0) {
			return
		}
	}
}
