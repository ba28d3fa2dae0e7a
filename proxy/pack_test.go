package proxy

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestADrainThatIsUndoneReleasesSessionsThatWaitToBeAskedForTheirState(t *testing.T) {
	onEachForwarder(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.Continuity.Mode, cfg.Continuity.MovesAtOnce = MoveLossless, 1
		pg := startFakePG(t, aPrimary)
		h := startServer(t, cfg, Deps{})
		h.open(pg.route(1))
		clients := []*testClient{h.login(), h.login(), h.login()}
		for _, c := range clients {
			c.query("begin")
		}
		over := h.startDrain(1)
		turns := h.rest.surveyed().slots
		turns <- struct{}{} // a session whose server does not answer has the only turn
		for _, c := range clients {
			c.query("commit")
		}
		eventually(t, "all are at rest", func() bool { return h.resting.Load() == 3 })
		for _, c := range clients {
			c.write(appendQuery(nil, "asked meanwhile"))
		}
		h.Undrain(1)
		for _, c := range clients {
			same(t, "on its old backend", c.messages(), []string{"D asked meanwhile", "C SELECT 1", "Z I"})
		}
		if over() != 0 || h.resting.Load() != 0 {
			t.Errorf("the drain was over %d times, %d sessions are packed", over(), h.resting.Load())
		}
		<-turns
	})
}

// answering is a backend that says so much and no more.
func answering(words string) io.ReadWriter {
	return struct {
		io.Reader
		io.Writer
	}{strings.NewReader(words), io.Discard}
}

func TestARefusalOfTheNamesOfCustomSettingsIsTheAskersOwnUntilThereAreSeveral(t *testing.T) {
	refuses := encode(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "08P01", Message: "no"}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	answers := encode(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.DataRow{Values: [][]byte{[]byte("app.tenant")}},
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.CloseComplete{}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	ask := func(c *census, words string) (string, bool) {
		names, unknown, _, err := c.names(context.Background(), "db", answering(words))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(names, " "), unknown
	}
	var c census
	for _, words := range []string{refuses, answers, ""} { // the third is not asked
		names, unknown := ask(&c, words)
		equal(t, "unknown", unknown, words == refuses)
		if words != refuses {
			equal(t, "names", names, "app.tenant")
		}
	}
	var hopeless census
	for range refusalsMax {
		ask(&hopeless, refuses)
	}
	_, unknown := ask(&hopeless, "")
	equal(t, "unknown without another question", unknown, true)
}

func TestWhatALoginReportsIsReadPastALongNotice(t *testing.T) {
	x := &exchange{}
	x.ready.messages = []byte(encode(&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: strings.Repeat("S long ", siftMax/4)},
		&pgproto3.ParameterStatus{Name: "is_superuser", Value: "on"}, &pgproto3.ReadyForQuery{TxStatus: 'I'}))
	equal(t, "is_superuser", x.told()["is_superuser"], "on")
	x.ready.messages = []byte("S\x00\x00\x00\x09TimeZ")
	equal(t, "reports in what is no whole message", len(x.told()), 0)
}
