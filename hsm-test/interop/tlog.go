// Reads an exported log with Go's own checksum-database packages (golang.org/x/mod/sumdb), which
// know nothing of pfx-agent: the Ed25519 line of each checkpoint, every entry against its tile, every
// tile against the root, an inclusion proof for each entry asked for, consistency of all checkpoints.
//
//	tlog FOLDER KEYLINE [RECEIPT...]
//
// Prints one line for each kind of check with its count, and ends with 1 at the first failure.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func must(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

// Tiles of the folder, whose paths leave out the height.
type folder struct{ path string }

func (f folder) Height() int                              { return height }
func (f folder) SaveTiles(tiles []tlog.Tile, d [][]byte) {}
func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		name := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(f.path, name))
		if err != nil && tile.W < 1<<height {
			// A full tile serves where a part of it is asked for.
			tile.W = 1 << height
			name = strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
			data, err = os.ReadFile(filepath.Join(f.path, name))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	for i, tile := range tiles {
		if len(all[i]) > tile.W*tlog.HashSize {
			all[i] = all[i][:tile.W*tlog.HashSize]
		}
	}
	return all, nil
}

// Three lines, as the checkpoint format has them; the signature must be by the known key.
func open(data []byte, known note.Verifiers, origin string) tlog.Tree {
	signed, err := note.Open(data, known)
	must(err, "open checkpoint")
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[0] != origin || lines[3] != "" || len(signed.Sigs) != 1 {
		fail("checkpoint: %q, %d known signatures", signed.Text, len(signed.Sigs))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err, "size")
	hash, err := tlog.ParseHash(lines[2])
	must(err, "root")
	return tlog.Tree{N: size, Hash: hash}
}

func entries(path string, size int64) [][]byte {
	var all [][]byte
	for n := int64(0); n<<height < size; n++ {
		tile := tlog.Tile{H: height, L: 0, N: n, W: 1 << height}
		if size-n<<height < 1<<height {
			tile.W = int(size - n<<height)
		}
		name := strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1)
		data, err := os.ReadFile(filepath.Join(path, name))
		must(err, "bundle")
		for len(data) > 0 {
			length := int(binary.BigEndian.Uint16(data))
			all = append(all, data[2:2+length])
			data = data[2+length:]
		}
	}
	return all
}

func receipt(name string, known note.Verifiers, origin string, all [][]byte) {
	data, err := os.ReadFile(name)
	must(err, "receipt")
	split := bytes.Index(data, []byte("\n\n"))
	lines := strings.Split(string(data[:split]), "\n")
	if lines[0] != "c2sp.org/tlog-proof@v1" {
		fail("receipt: first line %q", lines[0])
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	must(err, "index")
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := base64.StdEncoding.DecodeString(line)
		must(err, "hash")
		var h tlog.Hash
		copy(h[:], hash)
		proof = append(proof, h)
	}
	tree := open(data[split+2:], known, origin)
	must(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(all[index])),
		"receipt "+name)
}

func main() {
	if len(os.Args) < 3 {
		fail("usage: tlog FOLDER KEYLINE [RECEIPT...]")
	}
	path := os.Args[1]
	verifier, err := note.NewVerifier(os.Args[2])
	must(err, "key line")
	known := note.VerifierList(verifier)
	data, err := os.ReadFile(filepath.Join(path, "checkpoint"))
	must(err, "checkpoint")
	head := open(data, known, verifier.Name())

	// TileHashReader compares every tile with the root before it gives a hash of it.
	reader := tlog.TileHashReader(head, folder{path})
	all := entries(path, head.N)
	if int64(len(all)) != head.N {
		fail("%d entries in the bundles, %d in the checkpoint", len(all), head.N)
	}
	for i, entry := range all {
		proof, err := tlog.ProveRecord(head.N, int64(i), reader)
		must(err, "prove")
		must(tlog.CheckRecord(proof, head.N, head.Hash, int64(i), tlog.RecordHash(entry)), "entry")
	}
	fmt.Printf("entries %d\n", len(all))

	names, err := filepath.Glob(filepath.Join(path, "checkpoints", "*"))
	must(err, "checkpoints")
	sort.Strings(names)
	for _, name := range names {
		data, err := os.ReadFile(name)
		must(err, "checkpoint")
		old := open(data, known, verifier.Name())
		if old.N == head.N {
			if old.Hash != head.Hash {
				fail("%s: two roots of one size", name)
			}
			continue
		}
		proof, err := tlog.ProveTree(head.N, old.N, reader)
		must(err, "prove")
		must(tlog.CheckTree(proof, head.N, head.Hash, old.N, old.Hash), name)
	}
	fmt.Printf("checkpoints %d\n", len(names))
	for _, name := range os.Args[3:] {
		receipt(name, known, verifier.Name(), all)
	}
	fmt.Printf("receipts %d\n", len(os.Args)-3)
}
