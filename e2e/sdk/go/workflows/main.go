// A worker of the official SDK with the patterns that people build of workflows, and a client that starts them and says by the exit
// code whether all came to what it should. In the middle the sidecar is restarted: the file `middle` asks for it, `restarted` says
// that it is done.
//
//	workflows FOLDER
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"apps/check"

	"github.com/dapr/durabletask-go/workflow"
	dapr "github.com/dapr/go-sdk/client"
)

var (
	lock sync.Mutex
	runs = map[string]int{}
)

func count(name string) int {
	lock.Lock()
	defer lock.Unlock()
	runs[name]++
	return runs[name]
}

func counted(name string) int {
	lock.Lock()
	defer lock.Unlock()
	return runs[name]
}

func Book(ctx workflow.ActivityContext) (any, error) {
	var what string
	if err := ctx.GetInput(&what); err != nil {
		return nil, err
	}
	count("book " + what)
	if what == "car" {
		return nil, errors.New("no car is left")
	}
	return "booked " + what, nil
}

func Cancel(ctx workflow.ActivityContext) (any, error) {
	var what string
	if err := ctx.GetInput(&what); err != nil {
		return nil, err
	}
	count("cancel " + what)
	return "cancelled " + what, nil
}

func Square(ctx workflow.ActivityContext) (any, error) {
	var number int
	if err := ctx.GetInput(&number); err != nil {
		return nil, err
	}
	count("square")
	return number * number, nil
}

func Shaky(workflow.ActivityContext) (any, error) {
	if count("shaky") < 3 {
		return nil, errors.New("not yet")
	}
	return "at last", nil
}

// Saga books one after the other, and takes all back where one cannot be had.
func Saga(ctx *workflow.WorkflowContext) (any, error) {
	var wishes, done []string
	if err := ctx.GetInput(&wishes); err != nil {
		return nil, err
	}
	for _, wish := range wishes {
		if ctx.CallActivity(Book, workflow.WithActivityInput(wish)).Await(nil) == nil {
			done = append(done, wish)
			continue
		}
		for _, other := range slices.Backward(done) {
			if err := ctx.CallActivity(Cancel, workflow.WithActivityInput(other)).Await(nil); err != nil {
				return nil, err
			}
		}
		return map[string]any{"cancelled": done}, nil
	}
	return map[string]any{"booked": done}, nil
}

func FanOut(ctx *workflow.WorkflowContext) (any, error) {
	var numbers []int
	if err := ctx.GetInput(&numbers); err != nil {
		return nil, err
	}
	var tasks []workflow.Task
	for _, number := range numbers {
		tasks = append(tasks, ctx.CallActivity(Square, workflow.WithActivityInput(number)))
	}
	sum := 0
	for _, task := range tasks {
		var square int
		if err := task.Await(&square); err != nil {
			return nil, err
		}
		sum += square
	}
	return sum, nil
}

func Approval(ctx *workflow.WorkflowContext) (any, error) {
	var patience int
	if err := ctx.GetInput(&patience); err != nil {
		return nil, err
	}
	var word string
	if ctx.WaitForExternalEvent("approved", time.Duration(patience)*time.Millisecond).Await(&word) != nil {
		return "too late", nil
	}
	return word, nil
}

func Family(ctx *workflow.WorkflowContext) (any, error) {
	var numbers []int
	if err := ctx.GetInput(&numbers); err != nil {
		return nil, err
	}
	var total int
	id := workflow.WithChildWorkflowInstanceID(ctx.ID() + "-child")
	err := ctx.CallChildWorkflow(FanOut, workflow.WithChildWorkflowInput(numbers), id).Await(&total)
	return total + 1, err
}

func Patient(ctx *workflow.WorkflowContext) (any, error) {
	policy := workflow.WithActivityRetryPolicy(&workflow.RetryPolicy{
		MaxAttempts:          5,
		InitialRetryInterval: 100 * time.Millisecond,
	})
	var word string
	err := ctx.CallActivity(Shaky, policy).Await(&word)
	return word, err
}

func Rounds(ctx *workflow.WorkflowContext) (any, error) {
	var left int
	if err := ctx.GetInput(&left); err != nil {
		return nil, err
	}
	if left > 0 {
		if err := ctx.CreateTimer(20 * time.Millisecond).Await(nil); err != nil {
			return nil, err
		}
		ctx.ContinueAsNew(left - 1)
		return nil, nil
	}
	return "round and round", nil
}

// Halves has done something and waits when its sidecar is restarted.
func Halves(ctx *workflow.WorkflowContext) (any, error) {
	var numbers []int
	if err := ctx.GetInput(&numbers); err != nil {
		return nil, err
	}
	var before, after int
	var word string
	if err := ctx.CallActivity(Square, workflow.WithActivityInput(numbers[0])).Await(&before); err != nil {
		return nil, err
	}
	if err := ctx.WaitForExternalEvent("go on", -1).Await(&word); err != nil {
		return nil, err
	}
	if err := ctx.CallActivity(Square, workflow.WithActivityInput(numbers[1])).Await(&after); err != nil {
		return nil, err
	}
	return fmt.Sprint(before, " ", word, " ", after), nil
}

type user struct {
	ctx    context.Context
	client *workflow.Client
}

func (u user) start(name string, input any, options ...workflow.NewWorkflowOptions) string {
	id, err := u.client.ScheduleWorkflow(u.ctx, name, append(options, workflow.WithInput(input))...)
	check.Done(err, "start", name)
	return id
}

func (u user) ended(id string) *workflow.WorkflowMetadata {
	metadata, err := u.client.WaitForWorkflowCompletion(u.ctx, id, workflow.WithFetchPayloads(true))
	check.Done(err, "the end of", id)
	return metadata
}

func (u user) isCompleted(id, expected string) {
	metadata := u.ended(id)
	check.That(metadata.RuntimeStatus == workflow.StatusCompleted, id, metadata.String())
	output := metadata.Output.GetValue()
	check.That(output == expected, id, output)
}

func (u user) comesTo(name string, input any, expected string, options ...workflow.NewWorkflowOptions) {
	u.isCompleted(u.start(name, input, options...), expected)
}

func (u user) patterns() {
	u.comesTo("Saga", []string{"flight", "hotel"}, `{"booked":["flight","hotel"]}`)
	u.comesTo("Saga", []string{"train", "ship", "car"}, `{"cancelled":["train","ship"]}`)
	check.That(counted("cancel train") == 1 && counted("cancel ship") == 1, runs)
	u.comesTo("FanOut", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, "285")
	check.That(counted("square") == 10, runs)
	u.comesTo("Approval", 300, `"too late"`)
	u.comesTo("Family", []int{1, 2, 3}, "15", workflow.WithInstanceID("the-family"))
	u.isCompleted("the-family-child", "14")
	u.comesTo("Patient", nil, `"at last"`)
	u.comesTo("Rounds", 5, `"round and round"`)

	waiting := u.start("Approval", 60_000)
	check.Done(u.client.RaiseEvent(u.ctx, waiting, "approved", workflow.WithEventPayload("by the boss")))
	u.isCompleted(waiting, `"by the boss"`)
}

func (u user) restart(folder string) {
	squares := counted("square")
	id := u.start("Halves", []int{3, 4}, workflow.WithInstanceID("the-long-one"))
	check.Eventually("a commit", func() error {
		history, err := u.client.GetInstanceHistory(u.ctx, id)
		if err == nil && (counted("square") == squares || len(history.Events) < 4) {
			return errors.New("not yet")
		}
		return err
	})
	check.Done(os.WriteFile(filepath.Join(folder, "middle"), nil, 0o600))
	check.Eventually("the restart", func() error {
		_, err := os.Stat(filepath.Join(folder, "restarted"))
		return err
	})
	check.Eventually("an event", func() error {
		return u.client.RaiseEvent(u.ctx, id, "go on", workflow.WithEventPayload("then"))
	})
	u.isCompleted(id, `"9 then 16"`)
	check.That(counted("square") == squares+2, runs)
}

func (u user) end() {
	id := u.start("Approval", 60_000, workflow.WithInstanceID("the-last"))
	check.Done(u.client.SuspendWorkflow(u.ctx, id, "wait"))
	check.Eventually("the pause", func() error {
		metadata, err := u.client.FetchWorkflowMetadata(u.ctx, id)
		if err == nil && metadata.RuntimeStatus != workflow.StatusSuspended {
			return errors.New("not yet")
		}
		return err
	})
	check.Done(u.client.ResumeWorkflow(u.ctx, id, "go on"))
	check.Done(u.client.TerminateWorkflow(u.ctx, id, workflow.WithOutput("enough")))
	metadata := u.ended(id)
	check.That(metadata.RuntimeStatus == workflow.StatusTerminated, metadata.String())
	check.That(metadata.Output.GetValue() == `"enough"`, metadata.Output.GetValue())
	check.Done(u.client.PurgeWorkflowState(u.ctx, id))
	_, err := u.client.FetchWorkflowMetadata(u.ctx, id)
	check.That(err != nil, "it is still there")
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), check.Deadline)
	defer cancel()
	client, err := dapr.NewWorkflowClient()
	check.Done(err, "the client")
	registry := workflow.NewRegistry()
	for _, it := range []workflow.Workflow{Saga, FanOut, Approval, Family, Patient, Rounds, Halves} {
		check.Done(registry.AddWorkflow(it))
	}
	for _, it := range []workflow.Activity{Book, Cancel, Square, Shaky} {
		check.Done(registry.AddActivity(it))
	}
	check.Done(client.StartWorker(ctx, registry), "the worker")
	u := user{ctx, client}
	u.patterns()
	u.restart(os.Args[1])
	u.end()
}
