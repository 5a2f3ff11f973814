// Package shed lowers the sampling of cameras while workers cannot keep up, in proportion to priority, and raises it again
// when there is room.
//
// # What it promises
//
// Frames of cameras with delivery freshest that no worker has time for are not captured in the first place, so that those
// which are captured are answered in time. A share holds for all cameras of a priority: min(1, k*priority/10) of what they
// would capture, with one k for all, found from the capacity that was measured. Where both are lowered, a camera of priority
// 10 keeps ten times what one of priority 1 keeps. Nobody gets more than its full rate, and nobody less than
// [sampling.MinRate].
//
// Every change is written to SAMPLING under the leader's fencing token, and told as an event.
//
// # When it acts
//
// A work group is overloaded when messages wait, its workers have no time left and fewer are answered than arrive, for
// two seconds on end. It is not overload when
//
//   - nobody serves the group: there is no capacity that could be shared, and the frames that wait when a worker comes
//     should be fresh ones;
//   - the broker does not answer, or nothing at all is being answered: that is a stall, for which others are at work;
//   - what waits is being caught up, as after a restart of a worker.
//
// Rings of three frames per camera bound what waits in all of these cases.
//
// Sampling is lowered to 0.85 of the measured capacity, and first below that for as long as it takes to work off what
// waits. It is raised after ten seconds in which nothing waited and only as far as workers have time, by 15 % at most at a
// time. A raise that has to be taken back doubles the time until the next.
package shed
