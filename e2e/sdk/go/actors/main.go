// An app of the official SDK whose actors count: over HTTP callbacks, or over a stream that the app opens. Beside them runs a client
// that calls them, and says by the exit code whether all was as it should be.
//
//	actors http|stream PORT
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"apps/check"

	"github.com/dapr/go-sdk/actor"
	"github.com/dapr/go-sdk/actor/runtime"
	dapr "github.com/dapr/go-sdk/client"
	service "github.com/dapr/go-sdk/service/http"
)

var client dapr.Client

// Seen is what an actor has seen so far.
type Seen struct {
	Timer, Reminder []string
}

// Counter is what is served.
type Counter struct {
	actor.ServerImplBaseCtx
	seen Seen
}

func (*Counter) Type() string { return "Counter" }

func (c *Counter) Add(ctx context.Context, amount int) (int, error) {
	state := c.GetStateManager()
	known, err := state.Contains(ctx, "count")
	if err != nil {
		return 0, err
	}
	count := 0
	if known {
		if err := state.Get(ctx, "count", &count); err != nil {
			return 0, err
		}
	}
	return count + amount, state.Set(ctx, "count", count+amount)
}

func (c *Counter) Seen(context.Context) (*Seen, error) {
	return &c.seen, nil
}

func (c *Counter) Arm(ctx context.Context) error {
	err := client.RegisterActorTimer(ctx, &dapr.RegisterActorTimerRequest{
		ActorType: c.Type(), ActorID: c.ID(), Name: "tick", CallBack: "Tick", DueTime: "0s", Period: "100ms", Data: []byte(`"of the timer"`),
	})
	return errors.Join(err, client.RegisterActorReminder(ctx, &dapr.RegisterActorReminderRequest{
		ActorType: c.Type(), ActorID: c.ID(), Name: "ring", DueTime: "0s", Period: "1s", Data: []byte("of the reminder"),
	}))
}

func (c *Counter) Disarm(ctx context.Context) error {
	err := client.UnregisterActorTimer(ctx, &dapr.UnregisterActorTimerRequest{ActorType: c.Type(), ActorID: c.ID(), Name: "tick"})
	return errors.Join(err, client.UnregisterActorReminder(ctx, &dapr.UnregisterActorReminderRequest{
		ActorType: c.Type(), ActorID: c.ID(), Name: "ring",
	}))
}

func (c *Counter) Tick(_ context.Context, state string) error {
	c.seen.Timer = append(c.seen.Timer, state)
	return nil
}

func (c *Counter) ReminderCall(name string, state []byte, _, _ string) {
	c.seen.Reminder = append(c.seen.Reminder, name+" "+string(state))
}

// Around comes back to itself: without reentrancy it would wait for ever.
func (c *Counter) Around(ctx context.Context, depth int) (int, error) {
	if depth == 0 {
		return c.Add(ctx, 1)
	}
	return proxy(c.ID()).Around(ctx, depth-1)
}

// Proxy is what is called.
type Proxy struct {
	id     string
	Add    func(context.Context, int) (int, error)
	Seen   func(context.Context) (*Seen, error)
	Arm    func(context.Context) error
	Disarm func(context.Context) error
	Around func(context.Context, int) (int, error)
	None   func(context.Context) error
}

func (*Proxy) Type() string { return "Counter" }
func (p *Proxy) ID() string { return p.id }

func proxy(id string) *Proxy {
	proxy := &Proxy{id: id}
	client.ImplActorClientStub(proxy)
	return proxy
}

func call(ctx context.Context, around bool) {
	first, second := proxy("first"), proxy("second")
	check.Eventually("the first call", func() error {
		count, err := first.Add(ctx, 2)
		if err == nil && count != 2 {
			return fmt.Errorf("it counts %d", count)
		}
		return err
	})
	count, err := first.Add(ctx, 3)
	check.That(err == nil && count == 5, "the second call", count, err)
	count, err = second.Add(ctx, 1)
	check.That(err == nil && count == 1, "another actor", count, err)
	if around {
		count, err = second.Around(ctx, 3)
		check.That(err == nil && count == 2, "around", count, err)
	}

	check.Done(first.Arm(ctx), "arm")
	check.Eventually("the timer and the reminder", func() error {
		seen, err := first.Seen(ctx)
		if err == nil && (len(seen.Timer) < 2 || len(seen.Reminder) < 2) {
			return fmt.Errorf("seen so far: %v", seen)
		}
		return err
	})
	seen, err := first.Seen(ctx)
	check.Done(err, "seen")
	check.That(seen.Timer[0] == "of the timer", seen)
	check.That(seen.Reminder[0] == "ring of the reminder", seen)
	check.Done(first.Disarm(ctx), "disarm")
	err = first.None(ctx)
	check.That(err != nil, "a method that is not there has an answer")
	fmt.Println("a method that is not there:", err)
}

func main() {
	mode, port := os.Args[1], os.Args[2]
	ctx, cancel := context.WithTimeout(context.Background(), check.Deadline)
	defer cancel()
	var err error
	client, err = dapr.NewClient()
	check.Done(err, "the client")
	counter := func() actor.ServerContext { return &Counter{} }
	if mode == "http" {
		server := service.NewService("127.0.0.1:" + port)
		server.RegisterActorImplFactoryContext(counter)
		go func() { check.Done(server.Start(), "the server") }()
	} else {
		handler := runtime.GetActorRuntimeInstanceContext()
		handler.RegisterActorFactory(counter)
		_, err = client.SubscribeActorEvents(ctx, handler, dapr.ActorEventSubscriptionOptions{
			Reentrancy: &dapr.ActorReentrancyConfig{Enabled: true},
		})
		check.Done(err, "the stream")
	}
	// The SDK passes no reentrancy id on that comes over HTTP.
	call(ctx, mode == "stream")
}
