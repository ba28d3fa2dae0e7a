package pgwire

// longText looks through a text that is too long to be kept, in as many pieces as it comes, for words that it may not hold unnoticed.
type longText struct {
	is          bool
	deallocates bool // DEALLOCATE or DISCARD
	sets        bool // SET, RESET or set_config
	kept        uint8
	tail        [longestWord - 1]byte // the end of what has come so far
}

const longestWord = len("deallocate")

func (l *longText) feed(b []byte) {
	// What spans the pieces.
	var seam [2 * (longestWord - 1)]byte
	n := copy(seam[:], l.tail[:l.kept])
	n += copy(seam[n:], b[:min(len(b), longestWord-1)])
	l.search(seam[:n])
	l.search(b)
	if len(b) >= len(l.tail) {
		l.kept = uint8(copy(l.tail[:], b[len(b)-len(l.tail):]))
		return
	}
	all := append(append([]byte(nil), l.tail[:l.kept]...), b...)
	l.kept = uint8(copy(l.tail[:], all[max(0, len(all)-len(l.tail)):]))
}

func (l *longText) search(b []byte) {
	for i := range b {
		switch lower(b[i]) {
		case 'd':
			l.deallocates = l.deallocates || startsWord(b[i:], "deallocate") || startsWord(b[i:], "discard")
		case 's':
			l.sets = l.sets || startsWord(b[i:], "set")
		}
	}
}

// startsWord is hasPrefixFold for bytes.
func startsWord(b []byte, w string) bool {
	if len(b) < len(w) {
		return false
	}
	for i := range len(w) {
		if lower(b[i]) != w[i] {
			return false
		}
	}
	return true
}

// The verdicts on long texts.
var longVerdicts = [4]verdict{
	{unknown: UnknownText},
	{unknown: UnknownText | UnknownCustom},
	{unknown: UnknownText, deeds: []deed{{kind: deedUnclear}}},
	{unknown: UnknownText | UnknownCustom, deeds: []deed{{kind: deedUnclear}}},
}

func (l *longText) verdict() *verdict {
	i := 0
	if l.sets {
		i = 1
	}
	if l.deallocates {
		i += 2
	}
	return &longVerdicts[i]
}
