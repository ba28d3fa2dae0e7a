package lab

import "context"

// TLS tells where the lab's certificates are.
type TLS struct {
	CAFile string
}

func (t *TLS) serverFiles(string) (cert, key string) { return "", "" }

func (l *Lab) prepareTLS(context.Context) error { return nil }
