package ingest

// motionWidth and motionHeight are the cells in which pictures are compared: a person far away fills one of them, and the
// noise of single pixels averages out.
const motionWidth, motionHeight = 32, 24

// motion measures how much a camera's pictures change from one captured picture to the next. The zero value has seen none.
type motion struct {
	grids [2][motionWidth * motionHeight]uint16
	last  int  // the grid of the last picture
	known bool // there was one
}

// difference is the mean absolute difference of luma between p and the picture before it, in grey levels. The first picture
// has none, nor has one that cannot be measured.
func (m *motion) difference(p Picture) (diff float64, ok bool) {
	next := &m.grids[1-m.last]
	if err := p.Luma(next[:], motionWidth, motionHeight); err != nil {
		m.known = false
		return 0, false
	}
	before := &m.grids[m.last]
	ok = m.known
	m.last, m.known = 1-m.last, true
	if !ok {
		return 0, false
	}
	sum := 0
	for i, v := range next {
		sum += max(int(v), int(before[i])) - min(int(v), int(before[i]))
	}
	return float64(sum) / (256 * motionWidth * motionHeight), true
}
