package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxEvent bounds one line and the data of one event of a stream, in bytes.
const maxEvent = 1 << 20

var errNotEvents = errors.New("not a stream of events")

// readStream reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) and gives the data of each to
// take, until the stream ends or take returns an error. An event that the end cuts off is not delivered; comments, names and
// identifiers are skipped: the data holds them. Every line, whatever it holds, is a sign of life.
func readStream(r io.Reader, alive func(), take func(data []byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxEvent)
	var data []byte
	has := false
	for lines.Scan() {
		alive()
		line := lines.Bytes()
		if len(line) == 0 {
			if has {
				if err := take(bytes.TrimSuffix(data, []byte{'\n'})); err != nil {
					return err
				}
			}
			data, has = data[:0], false
			continue
		}
		field, value, _ := bytes.Cut(line, []byte{':'})
		if string(field) != "data" {
			continue
		}
		if len(data)+len(value) > maxEvent {
			return fmt.Errorf("%w: an event of more than %d bytes", errNotEvents, maxEvent)
		}
		data = append(append(data, bytes.TrimPrefix(value, []byte{' '})...), '\n')
		has = true
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("%w: a line of more than %d bytes", errNotEvents, maxEvent)
	}
	return lines.Err()
}
