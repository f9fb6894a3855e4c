// Keeps the newest text in sight, until the reader scrolls up.

const NEAR_PIXELS = 60; // from the end: close enough to be following

/**
 * Follows the end of `content` inside the element `scroller`, which scrolls.
 *
 * @param onChange Called with whether the end is followed.
 */
export class Follower {
  constructor(scroller, content, onChange) {
    this.scroller = scroller;
    this.onChange = onChange;
    this.isFollowing = true;
    this.lastTop = 0;
    scroller.addEventListener("scroll", () => this.onScroll(), { passive: true });
    const observer = new ResizeObserver(() => this.isFollowing && this.toEnd());
    observer.observe(content);
    observer.observe(scroller);
  }

  /** Goes to the end and follows it from now on. */
  follow() {
    this.set(true);
    this.toEnd();
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.lastTop = this.scroller.scrollTop;
  }

  onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const isUp = scrollTop < this.lastTop - 1;
    this.lastTop = scrollTop;
    // Only the reader scrolls up; text that grows below does not, so distance alone must not end the following.
    if (scrollHeight - clientHeight - scrollTop <= NEAR_PIXELS) this.set(true);
    else if (isUp) this.set(false);
  }

  set(isFollowing) {
    this.isFollowing = isFollowing;
    this.onChange(isFollowing);
  }
}
