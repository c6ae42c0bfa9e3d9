// An app of the official SDK that calls another one, and ends when that has called it; the exit code says whether all was as it
// should be.
//
//	invocation PORT OTHER
package main

import (
	"context"
	"fmt"
	"os"

	"apps/check"

	dapr "github.com/dapr/go-sdk/client"
	"github.com/dapr/go-sdk/service/common"
	service "github.com/dapr/go-sdk/service/http"
)

func main() {
	port, other := os.Args[1], os.Args[2]
	ctx, cancel := context.WithTimeout(context.Background(), check.Deadline)
	defer cancel()
	called := make(chan struct{}, 1)
	server := service.NewService("127.0.0.1:" + port)
	check.Done(server.AddServiceInvocationHandler("/echo", func(_ context.Context, in *common.InvocationEvent) (*common.Content, error) {
		select {
		case called <- struct{}{}:
		default:
		}
		return &common.Content{Data: in.Data, ContentType: in.ContentType}, nil
	}))
	// Ends without an error when it is stopped.
	ended := make(chan error, 1)
	go func() { ended <- server.Start() }()

	client, err := dapr.NewClient()
	check.Done(err, "the client")
	hello := &dapr.DataContent{Data: []byte("hello"), ContentType: "text/plain"}
	check.Eventually("an answer", func() error {
		answer, err := client.InvokeMethodWithContent(ctx, other, "echo", "post", hello)
		if err == nil && string(answer) != "hello" {
			return fmt.Errorf("the answer is %q", answer)
		}
		return err
	})
	_, err = client.InvokeMethod(ctx, other, "none", "get")
	check.That(err != nil, "a method that is not there has an answer")
	fmt.Println("a method that is not there:", err)
	select {
	case <-called:
	case <-ctx.Done():
		check.That(false, "nobody has called")
	}
	check.Done(server.GracefulStop(), "stop")
	<-ended
}
