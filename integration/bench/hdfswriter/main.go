// Command hdfswriter writes bytes to HDFS with the client library and waits
// for nothing but the end: neither for what the DataNodes acknowledge in
// between, nor for a sync. It is what the server's way to HDFS is held against.
package main

import (
	"flag"
	"fmt"
	"os"
	"path"
	"sync"
	"time"

	"github.com/colinmarc/hdfs/v2"
)

func main() {
	namenode := flag.String("namenode", "", "HOST:PORT")
	user := flag.String("user", "scribe", "who writes")
	dir := flag.String("dir", "/hdfswriter", "where; is made anew")
	files := flag.Int("files", 4, "files at once")
	size := flag.Int64("bytes", 1<<20, "in all")
	flag.Parse()
	if err := write(*namenode, *user, *dir, *files, *size); err != nil {
		fmt.Fprintln(os.Stderr, "hdfswriter:", err)
		os.Exit(1)
	}
}

func write(namenode, user, dir string, files int, size int64) error {
	c, err := hdfs.NewClient(hdfs.ClientOptions{Addresses: []string{namenode}, User: user})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.RemoveAll(dir); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := c.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	block := make([]byte, 256<<10)
	for i := range block {
		block[i] = 'a' + byte(i%26)
	}
	errs := make([]error, files)
	var wg sync.WaitGroup
	for i := range files {
		wg.Go(func() {
			w, err := c.Create(path.Join(dir, fmt.Sprint(i)))
			for left := size / int64(files); err == nil && left > 0; left -= int64(len(block)) {
				_, err = w.Write(block[:min(left, int64(len(block)))])
			}
			if err == nil {
				err = w.Close()
			}
			for hdfs.IsErrReplicating(err) { // the DataNode has not reported its last block yet
				time.Sleep(5 * time.Millisecond)
				err = w.Close()
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
