package main

import (
	"fmt"
	"html"
	"maps"
	"slices"
	"strings"
)

// The picture's measures, in pixels.
const (
	barWidth, groupGap     = 34, 30
	plotTop, plotHeight    = 60, 240
	panelLeft, panelMargin = 56, 14
)

// colours of the bars, by the order of the peers.
var colours = []string{"#1b6ca8", "#7fb2d9", "#34495e", "#e08e45", "#8aa399", "#b5838d", "#c9c9c9"}

// pictured are the workloads of which processor time per transaction is drawn.
var pictured = []string{"select", "tpcb", "tls", "connect"}

// panel is one workload of the picture, with a scale of its own: a transaction of one is not a transaction of another.
type panel struct {
	name    string
	clients []int
	costs   []series // one for each number of clients
	top     float64
}

// picture draws processor time per transaction by peer and number of clients: medians as bars, the least and the most as lines.
func (r *Report) picture() string {
	panels, peers := r.panels()
	width := 0
	for _, p := range panels {
		width += p.width(len(peers))
	}
	width = max(width, 560)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", width, plotTop+plotHeight+60)
	b.WriteString(`<rect width="100%" height="100%" fill="white"/>` + "\n")
	text(&b, panelLeft, 22, "start", `font-size="14"`, "Processor time of the proxy per transaction, µs (less is better; each scale is its own)")
	x := 0
	for _, p := range panels {
		p.draw(&b, x, peers)
		x += p.width(len(peers))
	}
	legend(&b, peers)
	b.WriteString("</svg>\n")
	return b.String()
}

// panels are what is drawn, and the peers that occur there.
func (r *Report) panels() (panels []panel, peers []string) {
	for _, c := range r.cases() {
		cost := c.numbers[cpuPerTx]
		if !slices.Contains(pictured, c.workload.name) || cost == nil {
			continue
		}
		if len(panels) == 0 || panels[len(panels)-1].name != c.workload.name {
			panels = append(panels, panel{name: c.workload.name})
		}
		p := &panels[len(panels)-1]
		p.clients, p.costs = append(p.clients, c.clients), append(p.costs, cost)
		for _, name := range c.peers {
			if cost[name] == nil {
				continue
			}
			p.top = max(p.top, slices.Max(slices.Collect(maps.Values(cost[name]))))
			if !slices.Contains(peers, name) {
				peers = append(peers, name)
			}
		}
	}
	return panels, peers
}

func (p panel) width(peers int) int {
	return panelLeft + len(p.costs)*(peers*barWidth+groupGap) + panelMargin
}

// height is where a value lies.
func (p panel) height(v float64) int {
	if p.top == 0 {
		return plotTop + plotHeight
	}
	return plotTop + plotHeight - int(v/p.top*plotHeight)
}

// draw draws the panel from x on.
func (p panel) draw(b *strings.Builder, x int, peers []string) {
	for i := range 5 {
		v := p.top * float64(i) / 4
		fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%d" y2="%[2]d" stroke="#ddd"/>`+"\n", x+panelLeft, p.height(v), x+p.width(len(peers))-panelMargin)
		text(b, x+panelLeft-6, p.height(v)+4, "end", `fill="#555"`, number(v))
	}
	for i, cost := range p.costs {
		left := x + panelLeft + groupGap/2 + i*(len(peers)*barWidth+groupGap)
		p.bars(b, left, cost, peers)
		text(b, left+len(peers)*barWidth/2, plotTop+plotHeight+16, "middle", "", fmt.Sprintf("%s, c = %d", p.name, p.clients[i]))
	}
}

// bars draws one number of clients.
func (p panel) bars(b *strings.Builder, x int, cost series, peers []string) {
	for i, name := range peers {
		values := slices.Collect(maps.Values(cost[name]))
		if len(values) == 0 {
			continue
		}
		left, y := x+i*barWidth, p.height(middle(values))
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", left, y, barWidth-4, plotTop+plotHeight-y, colours[i%len(colours)])
		centre, most := left+barWidth/2-2, p.height(slices.Max(values))
		fmt.Fprintf(b, `<line x1="%d" y1="%d" x2="%[1]d" y2="%[3]d" stroke="black"/>`+"\n", centre, p.height(slices.Min(values)), most)
		text(b, centre, most-4, "middle", "", number(middle(values)))
	}
}

func text(b *strings.Builder, x, y int, anchor, more, what string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="%s" %s>%s</text>`+"\n", x, y, anchor, more, html.EscapeString(what))
}

func legend(b *strings.Builder, peers []string) {
	x := panelLeft
	for i, p := range peers {
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/>`+"\n", x, plotTop+plotHeight+34, colours[i%len(colours)])
		text(b, x+14, plotTop+plotHeight+43, "start", "", p)
		x += 34 + 7*len(p)
	}
}
