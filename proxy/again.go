package proxy

// authenticateAgain answers one authentication request in the client's place. done means AuthenticationOk.
func (x *exchange) authenticateAgain(frame []byte) (done bool, err error) {
	reply, done, err := x.again.step(frame)
	if err != nil || reply == nil {
		return done, err
	}
	defer clear(reply)
	return done, x.send(reply)
}

// told returns the parameters that the server has reported during the login.
func (x *exchange) told() map[string]string {
	told := map[string]string{}
	for rest := x.ready.messages; len(rest) >= headerLength; {
		length, whole := messageLength(rest)
		if !whole {
			break
		}
		if rest[0] == 'S' {
			if name, value, ok := cutParameter(rest[headerLength:length]); ok {
				told[name] = value
			}
		}
		rest = rest[length:]
	}
	return told
}
