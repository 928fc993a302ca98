// Times and durations for people. The scenario's clock is in UTC.

const day = new Intl.DateTimeFormat('en-GB', { weekday: 'short', timeZone: 'UTC' });
const clock = new Intl.DateTimeFormat('en-GB', {
  hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23', timeZone: 'UTC',
});
const date = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', timeZone: 'UTC' });

/** `Mon 09:40:00` */
export const time = (at) => `${day.format(new Date(at))} ${clock.format(new Date(at))}`;

/** `Mon 2 Mar, 09:40:00` */
export const fullTime = (at) => `${day.format(new Date(at))} ${date.format(new Date(at))}, ${clock.format(new Date(at))}`;

/** `2d 3h`, the two largest units. */
export function duration(ms) {
  let rest = Math.round(ms / 1000);
  const parts = [];
  for (const [unit, seconds] of [['d', 86400], ['h', 3600], ['m', 60], ['s', 1]]) {
    if (rest >= seconds) {
      parts.push(`${Math.floor(rest / seconds)}${unit}`);
      rest %= seconds;
    }
  }
  return parts.slice(0, 2).join(' ') || '0s';
}

/** The session with this id. Undefined when there was none. */
export const findSession = (run, sid) => run.sessions.find((session) => session.id === sid);

/** The applications that completed a login in a session. Empty when there is none. */
export const applicationsOf = (lane) => lane.clients.map(([client]) => client).join(', ');

/** What people call a session: whose browser it is in. */
export function sessionName(run, sid) {
  const lane = findSession(run, sid);
  if (!lane) return 'a session';
  const same = run.sessions.filter((other) => other.person === lane.person && other.device === lane.device);
  const number = same.length > 1 ? ` (${same.indexOf(lane) + 1})` : '';
  return `${lane.person}, ${lane.device}${number}`;
}

/** Whether a session ended, expired or lives. */
export function sessionState(run, lane) {
  if (lane.ended) return 'ended';
  return lane.expires && Date.parse(lane.expires) <= Date.parse(run.now) ? 'expired' : 'live';
}

/** `asked`, `blocked`, `allowed`, or `allowed, audited`. */
export function outcome(login) {
  if (login.asked) return { word: 'Asked', kind: 'audited', sign: '?' };
  const audited = login.answer?.audited_reason;
  if (login.blocked) return { word: 'Blocked', kind: 'blocked', sign: '✕' };
  return audited && audited !== login.reason
    ? { word: 'Allowed, audited', kind: 'audited', sign: '◐' }
    : { word: 'Allowed', kind: 'allowed', sign: '✓' };
}
