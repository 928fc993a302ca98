// A scenario in the fragment of the address, which no server sees: its version, then the YAML as base64url of raw deflate.

const VERSION = 'v1';
const MAX_BYTES = 32768; // as the service: a scenario is no longer

async function through(stream, bytes, limit) {
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader();
  const chunks = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > limit) throw new Error('too long');
    chunks.push(value);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** The fragment for a scenario. */
export async function toFragment(yaml) {
  const packed = await through(new CompressionStream('deflate-raw'), new TextEncoder().encode(yaml), Infinity);
  const text = btoa(Array.from(packed, (byte) => String.fromCharCode(byte)).join(''));
  return `#${VERSION}.${text.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')}`;
}

/** The scenario of a fragment: `{ yaml }`, or `{ error }` as a sentence. Undefined when there is none. */
export async function fromFragment(fragment) {
  const [, version, packed] = /^#(v\d+)\.([A-Za-z0-9_-]*)$/.exec(fragment) ?? [];
  if (!fragment || fragment === '#') return undefined;
  if (!version) return { error: 'This link holds no scenario. It may have been cut: ask for the whole link.' };
  if (version !== VERSION) {
    return { error: `This link is of another version (${version}) of the playground: open it with that version.` };
  }
  try {
    const binary = atob(packed.replaceAll('-', '+').replaceAll('_', '/'));
    const bytes = Uint8Array.from(binary, (sign) => sign.charCodeAt(0));
    const yaml = await through(new DecompressionStream('deflate-raw'), bytes, MAX_BYTES);
    return { yaml: new TextDecoder('utf-8', { fatal: true }).decode(yaml) };
  } catch {
    return { error: 'The scenario of this link cannot be read. It may have been cut: ask for the whole link.' };
  }
}
